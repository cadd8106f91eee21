%% @doc Asks port mappers over the network, with OTP's results (`erl_epmd'), within a
%% time that is given: whatever the other side sends, or does not send. All are of OTP's
%% protocol, "EPMD protocol" in the ERTS User's Guide.
-module(portmapper_client).

-export([connect/3, names/3, port_please/4, alive2/2, alive2_reply/1, versions/0]).
-export_type([names/0, found/0]).

-type names() :: {ok, [{Name :: string(), inet:port_number()}]} | {error, address | etimedout | emsgsize}.
-type found() :: {port, inet:port_number(), Version :: non_neg_integer()} | noport | closed | {error, term()}.

-define(ALIVE2_REQ, $x).
-define(PORT_PLEASE2_REQ, $z).
-define(NAMES_REQ, $n).

%% Versions of the distribution protocol (OTP's dist.hrl).
-define(HIGHEST_VERSION, 6).
-define(LOWEST_VERSION, 5).
%% What `erl' nodes say that they are, hidden ones too, and their protocol: TCP.
-define(NODE_TYPE, $M).
-define(PROTOCOL, 0).

%% Bytes of what comes after a port, which nobody needs.
-define(MAX_REST, 4096).
%% Milliseconds that the other side has to close first, as it should.
-define(CLOSE_TIME, 100).

%% @doc Connects to a port mapper.
-spec connect(inet:ip_address(), inet:port_number(), Milliseconds :: timeout()) ->
    {ok, gen_tcp:socket()} | {error, inet:posix() | timeout}.
connect(Address, Port, Timeout) ->
    Family =
        case tuple_size(Address) of
            4 -> inet;
            8 -> inet6
        end,
    gen_tcp:connect(Address, Port, [Family, binary, {active, false}], Timeout).

%% @doc The names that are registered with a port mapper.
-spec names(inet:ip_address(), inet:port_number(), Milliseconds :: timeout()) -> names().
names(Address, Port, Timeout) ->
    Deadline = deadline(Timeout),
    case request(Address, Port, [?NAMES_REQ], Deadline) of
        {ok, Socket} ->
            Names = listed(portmapper_listing:read(Socket, Port, Deadline)),
            ok = gen_tcp:close(Socket),
            Names;
        {error, _} ->
            {error, address}
    end.

%% As OTP, which takes a name to end where there is a space.
listed({timeout, _Part}) -> {error, etimedout};
listed({too_long, _Part}) -> {error, emsgsize};
listed({other_port, _Part}) -> {error, address};
listed({_Closed, #{nodes := Nodes}}) ->
    {ok, [
        {binary_to_list(Name), Port}
     || {Name, Port} <- Nodes, binary:match(Name, <<" ">>) =:= nomatch
    ]}.

%% @doc The port of a node, and the highest version that it and this one speak.
-spec port_please(
    Name :: atom() | string(), inet:ip_address(), inet:port_number(), Milliseconds :: timeout()
) -> found().
port_please(Name, Address, Port, Timeout) ->
    Deadline = deadline(Timeout),
    case request(Address, Port, [?PORT_PLEASE2_REQ, text(Name)], Deadline) of
        {ok, Socket} ->
            Found = receive_port(Socket, <<>>, Deadline),
            ok = gen_tcp:close(Socket),
            Found;
        {error, _} ->
            noport
    end.

receive_port(Socket, Received, Deadline) ->
    case gen_tcp:recv(Socket, 0, left(Deadline)) of
        {ok, Data} -> port(Socket, <<Received/binary, Data/binary>>, Deadline);
        {error, timeout} -> noport;
        {error, _} when byte_size(Received) < 2 -> closed;
        {error, _} -> noport
    end.

port(Socket, <<$w, 0, Port:16, _Type, _Protocol, Highest:16, Lowest:16, _:2/binary, Rest/binary>>,
        Deadline) ->
    ok = await_close(Socket, byte_size(Rest), Deadline),
    {port, Port, best_version(Lowest, Highest)};
port(Socket, <<$w, 0, _/binary>> = Part, Deadline) ->
    receive_port(Socket, Part, Deadline);
port(Socket, <<$w, _NotFound, Rest/binary>>, Deadline) ->
    ok = await_close(Socket, byte_size(Rest), Deadline),
    noport;
port(Socket, Part, Deadline) when byte_size(Part) < 2 ->
    receive_port(Socket, Part, Deadline);
port(_Socket, Garbage, _Deadline) ->
    {error, {garbage_from_epmd, binary_to_list(Garbage)}}.

await_close(_Socket, Size, _Deadline) when Size > ?MAX_REST ->
    ok;
await_close(Socket, Size, Deadline) ->
    case gen_tcp:recv(Socket, 0, min(?CLOSE_TIME, left(Deadline))) of
        {ok, Data} -> await_close(Socket, Size + byte_size(Data), Deadline);
        {error, _} -> ok
    end.

best_version(Lowest, Highest) ->
    case versions() of
        {OurLowest, _} when OurLowest > Highest -> 0;
        {_, OurHighest} when Lowest > OurHighest -> 0;
        {_, OurHighest} -> min(OurHighest, Highest)
    end.

%% @doc The request that registers a node.
-spec alive2(Name :: atom() | string(), inet:port_number()) -> iodata().
alive2(Name, Port) ->
    Text = text(Name),
    {Lowest, Highest} = versions(),
    packet([
        <<?ALIVE2_REQ, Port:16, ?NODE_TYPE, ?PROTOCOL, Highest:16, Lowest:16>>,
        <<(length(Text)):16>>,
        Text,
        %% No extra data.
        <<0:16>>
    ]).

%% @doc What the answer to that says, as far as it has come.
-spec alive2_reply(binary()) ->
    {ok, Creation :: non_neg_integer()}
    | {error, duplicate_name | {garbage_from_epmd, [byte()]}}
    | incomplete.
alive2_reply(<<$v, 0, Creation:32>>) -> {ok, Creation};
alive2_reply(<<$v, _, _:32>>) -> {error, duplicate_name};
alive2_reply(<<$y, 0, Creation:16>>) -> {ok, Creation};
alive2_reply(<<$y, _, _:16>>) -> {error, duplicate_name};
alive2_reply(<<$v, _/binary>> = Part) when byte_size(Part) < 6 -> incomplete;
alive2_reply(Part) when byte_size(Part) < 4 -> incomplete;
alive2_reply(Garbage) -> {error, {garbage_from_epmd, binary_to_list(Garbage)}}.

%% @doc The versions of the distribution protocol that this node speaks, or says that it
%% does: OTP has variables for that.
-spec versions() -> {Lowest :: non_neg_integer(), Highest :: non_neg_integer()}.
versions() ->
    Highest = version("ERL_EPMD_DIST_HIGH", fun(Given) -> Given < ?HIGHEST_VERSION end),
    Lowest = version("ERL_EPMD_DIST_LOW", fun(Given) -> Given > ?LOWEST_VERSION end),
    {hd(Lowest ++ [?LOWEST_VERSION]), hd(Highest ++ [?HIGHEST_VERSION])}.

version(Variable, IsNarrower) ->
    try list_to_integer(os:getenv(Variable, "")) of
        Version -> [Version || IsNarrower(Version)]
    catch
        error:badarg -> []
    end.

request(Address, Port, Body, Deadline) ->
    case connect(Address, Port, left(Deadline)) of
        {ok, Socket} ->
            case gen_tcp:send(Socket, packet(Body)) of
                ok ->
                    {ok, Socket};
                {error, _} = Error ->
                    ok = gen_tcp:close(Socket),
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

packet(Body) ->
    [<<(iolist_size(Body)):16>>, Body].

text(Name) when is_atom(Name) -> atom_to_list(Name);
text(Name) when is_list(Name) -> Name.

deadline(Timeout) ->
    erlang:monotonic_time(millisecond) + Timeout.

left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).
