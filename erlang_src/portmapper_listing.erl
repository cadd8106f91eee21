%% @doc Reads what a port mapper answers to NAMES and MATCH: its own port, and a line for each
%% node. The other side is not trusted: it has until a deadline, and what is kept of what it
%% sends is bounded.
-module(portmapper_listing).

-export([read/3]).
-export_type([listing/0, end_of/0]).

%% Bytes of all lines at the most: 20,000 names of 800 bytes.
-define(MAX_LINES, 16#1000000).
%% Bytes of a line at the most: a name has 1,020.
-define(MAX_LINE, 2048).

-type end_of() :: closed | timeout | too_long | other_port | inet:posix().
%% Closed by the other side; or not in time; or more came than is read; or it is the listing
%% of a port mapper on another port; or what the system said.

-type listing() :: #{
    is_empty := boolean(), is_clean := boolean(), nodes := [{Name :: binary(), inet:port_number()}]
}.
%% Not even one byte came; no byte came that belongs to no line of a node; the nodes, the last
%% one first.

%% @doc All that comes until the other side closes, or the deadline, in monotonic milliseconds.
%% `Of' is the port that the port mapper has to have, as it says itself.
-spec read(gen_tcp:socket(), Of :: any | inet:port_number(), Deadline :: integer()) ->
    {end_of(), listing()}.
read(Socket, Of, Deadline) ->
    head(Socket, Of, <<>>, Deadline).

head(Socket, Of, Received, Deadline) ->
    case receive_more(Socket, Received, Deadline) of
        {ok, <<Port:32, _/binary>>} when Of =/= any, Port =/= Of ->
            {other_port, listing([], false)};
        {ok, <<_Port:32, Lines/binary>>} ->
            lines(Socket, Lines, listing([], true), byte_size(Lines), Deadline);
        {ok, Part} ->
            head(Socket, Of, Part, Deadline);
        {error, Reason} ->
            {Reason, (listing([], false))#{is_empty := Received =:= <<>>}}
    end.

lines(_Socket, _Lines, Listing, Size, _Deadline) when Size > ?MAX_LINES ->
    {too_long, Listing};
lines(Socket, Lines, Before, Size, Deadline) ->
    case scan(Lines, Before) of
        {Part, Listing} when byte_size(Part) > ?MAX_LINE ->
            {too_long, Listing};
        {Part, Listing} ->
            case receive_more(Socket, Part, Deadline) of
                {ok, More} ->
                    Now = Size + byte_size(More) - byte_size(Part),
                    lines(Socket, More, Listing, Now, Deadline);
                {error, Reason} ->
                    {Reason, ended(Part, Listing)}
            end
    end.

receive_more(Socket, Received, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case gen_tcp:recv(Socket, 0, Left) of
        {ok, Bytes} -> {ok, <<Received/binary, Bytes/binary>>};
        {error, _} = Error -> Error
    end.

listing(Nodes, IsClean) ->
    #{is_empty => false, is_clean => IsClean, nodes => Nodes}.

ended(<<>>, Listing) -> Listing;
ended(_Part, Listing) -> Listing#{is_clean := false}.

%% What is behind the last line, and the listing with all before.
scan(Bytes, #{nodes := Nodes} = Listing) ->
    case binary:split(Bytes, <<"\n">>) of
        [Line, Rest] ->
            case node_in(Line) of
                error -> scan(Rest, Listing#{is_clean := false});
                Node -> scan(Rest, Listing#{nodes := [Node | Nodes]})
            end;
        [Rest] ->
            {Rest, Listing}
    end.

node_in(<<"name ", Rest/binary>>) ->
    Between = <<" at port ">>,
    case binary:matches(Rest, Between) of
        [] ->
            error;
        Matches ->
            %% A name may have it, too.
            {At, Length} = lists:last(Matches),
            <<Name:At/binary, _:Length/binary, Port/binary>> = Rest,
            case string:to_integer(Port) of
                {Number, <<>>} when Number >= 0, Number =< 65535 -> {binary:copy(Name), Number};
                _ -> error
            end
    end;
node_in(_Line) ->
    error.
