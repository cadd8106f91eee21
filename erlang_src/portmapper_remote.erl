%% @doc Asks the port mapper of any host: one of this kind, or another EPMD. What it
%% answers is not trusted: a call ends in time, whatever comes.
-module(portmapper_remote).

-export([connect/3, names/2]).
-export_type([target/0, host/0, reason/0]).

%% Bytes of the longest reply that is read: 20,000 names of 800 bytes.
-define(MAX_REPLY, 16#1000000).

-type host() :: inet:hostname() | inet:ip_address() | binary().

-type target() :: #{host := host(), port => 1..65535, timeout => 1..16#7fffffff}.
%% `port': that of `ERL_EPMD_PORT', else 4369, by default. `timeout': milliseconds for
%% all of a call; 5000 by default.

-type reason() :: timeout | unanswered | bad_reply | too_long | inet:posix().
%% Not all came in time; the connection was closed without an answer, or with one that
%% is none; or more came than is read; or what the system said.

%% @doc See {@link portmapper:names/2}.
-spec names(Glob :: binary(), #{host := host(), port := 1..65535, timeout := pos_integer(), _ => _}) ->
    {ok, [{binary(), inet:port_number()}]} | {error, reason()}.
names(Glob, #{timeout := Timeout} = Where) ->
    %% Nobody is asked for a pattern that is none.
    Compiled =
        case portmapper_glob:compile(Glob) of
            {ok, Parts} -> Parts;
            error -> error(badarg, [Glob, Where])
        end,
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    Reply =
        case ask(<<"M", Glob/binary>>, Where, Deadline) of
            %% It knows no MATCH.
            {ok, <<>>} -> ask(<<"n">>, Where, Deadline);
            Other -> Other
        end,
    case Reply of
        {ok, <<>>} ->
            {error, unanswered};
        {ok, <<_EpmdPort:32, Lines/binary>>} ->
            case nodes_in(Lines) of
                {ok, Nodes} -> {ok, [Node || {Name, _} = Node <- Nodes, portmapper_glob:matches(Name, Compiled)]};
                error -> {error, bad_reply}
            end;
        {ok, _} ->
            {error, bad_reply};
        {error, _} = Error ->
            Error
    end.

nodes_in(Lines) ->
    case binary:split(Lines, <<"\n">>, [global]) of
        [_ | _] = All ->
            %% What follows the last line.
            {Whole, [Rest]} = lists:split(length(All) - 1, All),
            Nodes = [node_in(Line) || Line <- Whole],
            case Rest =:= <<>> andalso not lists:member(error, Nodes) of
                true -> {ok, Nodes};
                false -> error
            end
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

%% The whole reply; nothing if it is closed unanswered.
-spec ask(Body :: binary(), #{host := host(), port := 1..65535, _ => _}, Deadline :: integer()) ->
    {ok, binary()} | {error, reason()}.
ask(Body, Where, Deadline) ->
    case connect(Where, [{packet, raw}], Deadline) of
        {ok, Socket} ->
            Request = <<(byte_size(Body)):16, Body/binary>>,
            Reply =
                case gen_tcp:send(Socket, Request) of
                    ok -> receive_all(Socket, Deadline, [], 0);
                    {error, Reason} -> ended(Reason, [])
                end,
            ok = gen_tcp:close(Socket),
            Reply;
        {error, _} = Error ->
            Error
    end.

receive_all(_Socket, _Deadline, _Received, Size) when Size > ?MAX_REPLY ->
    {error, too_long};
receive_all(Socket, Deadline, Received, Size) ->
    case gen_tcp:recv(Socket, 0, left(Deadline)) of
        {ok, Bytes} ->
            receive_all(Socket, Deadline, [Bytes | Received], Size + byte_size(Bytes));
        {error, Reason} ->
            ended(Reason, Received)
    end.

%% One that does not know a request may close with bytes of it unread, which resets.
ended(closed, Received) -> {ok, iolist_to_binary(lists:reverse(Received))};
ended(econnreset, []) -> {ok, <<>>};
ended(Reason, _Received) -> {error, Reason}.

%% @doc Connects, over IPv4 if the name of the host has such an address.
-spec connect(#{host := host(), port := 1..65535, _ => _}, [gen_tcp:connect_option()], Deadline) ->
    {ok, gen_tcp:socket()} | {error, timeout | inet:posix()}
when
    Deadline :: integer().
connect(#{host := Given, port := Port}, Options, Deadline) ->
    Host = host(Given),
    All = [binary, {active, false}, {send_timeout, left(Deadline)}, {send_timeout_close, true}],
    Connect = fun(Family) ->
        gen_tcp:connect(Host, Port, [Family | All ++ Options], left(Deadline))
    end,
    case Host of
        _ when tuple_size(Host) =:= 8 ->
            Connect(inet6);
        _ ->
            case Connect(inet) of
                {error, nxdomain} -> Connect(inet6);
                Connected -> Connected
            end
    end.

host(Text) when is_binary(Text) -> host(binary_to_list(Text));
host(Host) when is_tuple(Host) -> Host;
host(Host) when is_atom(Host) -> Host;
host(Host) ->
    case inet:parse_address(Host) of
        {ok, Address} -> Address;
        {error, einval} -> Host
    end.

left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).
