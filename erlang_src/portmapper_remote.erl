%% @doc Asks the port mapper of any host: one of this kind, or another EPMD. What it
%% answers is not trusted: a call ends in time, whatever comes.
-module(portmapper_remote).

-export([connect/3, names/2]).
-export_type([target/0, host/0, reason/0]).

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
    Answer =
        case ask(<<"M", Glob/binary>>, Where, Deadline) of
            %% It knows no MATCH.
            {error, unanswered} -> ask(<<"n">>, Where, Deadline);
            Other -> Other
        end,
    case Answer of
        {ok, Nodes} ->
            {ok, [Node || {Name, _} = Node <- Nodes, portmapper_glob:matches(Name, Compiled)]};
        {error, _} = Error ->
            Error
    end.

-spec ask(Body :: binary(), #{host := host(), port := 1..65535, _ => _}, Deadline :: integer()) ->
    {ok, [{binary(), inet:port_number()}]} | {error, reason()}.
ask(Body, Where, Deadline) ->
    case connect(Where, [{packet, raw}], Deadline) of
        {ok, Socket} ->
            Answer =
                case gen_tcp:send(Socket, <<(byte_size(Body)):16, Body/binary>>) of
                    ok -> answer(portmapper_listing:read(Socket, any, Deadline));
                    {error, Reason} -> ended(Reason)
                end,
            ok = gen_tcp:close(Socket),
            Answer;
        {error, _} = Error ->
            Error
    end.

answer({closed, #{is_clean := true, nodes := Nodes}}) -> {ok, lists:reverse(Nodes)};
answer({closed, #{is_empty := false}}) -> {error, bad_reply};
answer({Reason, #{is_empty := true}}) -> ended(Reason);
answer({Reason, _Part}) -> {error, Reason}.

%% One that does not know a request may close with bytes of it unread, which resets.
ended(Reason) when Reason =:= closed; Reason =:= econnreset -> {error, unanswered};
ended(Reason) -> {error, Reason}.

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
