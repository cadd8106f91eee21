%% Port mappers that take over from each other, their nodes and their clients.
-module(successor).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([
    start_first/1, start_first/2,
    prepare/3,
    start/3,
    take_over/3,
    is_running/1,
    wait_for_end/1,
    register_many/2,
    start_holder/3,
    assert_held/3,
    start_client/2,
    look_up/2,
    stop_client/1,
    busy_wait/1
]).
-export_type([held/0]).

-type held() :: {gen_tcp:socket(), Name :: string(), portmapper:creation()}.

%% @doc A port mapper at the socket of the case, and its port.
-spec start_first(list()) -> {testkit:vm(), inet:port_number()}.
start_first(Config) ->
    start_first(Config, #{}).

%% @doc The same with what testkit takes.
-spec start_first(list(), map()) -> {testkit:vm(), inet:port_number()}.
start_first(Config, Options) ->
    Socket = ?config(socket, Config),
    Own = #{takeover_socket => Socket, raise_file_limit => true},
    More = maps:merge(Own, maps:get(config, Options, #{})),
    testkit:start_portmapper(Options#{logger_level => critical, config => More}).

%% @doc A VM that only has to take over. Options as for testkit, and its own path of the
%% `socket'.
-spec prepare(list(), inet:port_number(), map()) -> testkit:vm().
prepare(Config, Port, Options) ->
    VM = testkit:start_vm(Options#{logger_level => critical}),
    Keys = #{
        port => Port,
        takeover_socket => maps:get(socket, Options, ?config(socket, Config)),
        raise_file_limit => true
    },
    ok = testkit:call(VM, application, load, [portmapper]),
    ok = testkit:call(VM, application, set_env, [[{portmapper, maps:to_list(Keys)}]]),
    %% What takes time before it connects.
    ok = testkit:call(VM, portmapper_nif, load, []),
    VM.

%% @doc One that has; with a `type' as an application of that type.
-spec start(list(), inet:port_number(), map()) -> testkit:vm().
start(Config, Port, Options) ->
    VM = prepare(Config, Port, Options),
    case Options of
        #{type := Type} ->
            ok = testkit:call(VM, application, set_env, [portmapper, takeover, true]),
            ok = testkit:call(VM, application, start, [portmapper, Type]);
        _ ->
            ok = testkit:call(VM, portmapper, takeover, [])
    end,
    VM.

%% @doc The successor, and how many milliseconds it took. The old one is stopped.
-spec take_over(list(), inet:port_number(), testkit:vm()) -> {non_neg_integer(), testkit:vm()}.
take_over(Config, Port, Old) ->
    New = prepare(Config, Port, #{}),
    {Time, ok} = timer:tc(testkit, call, [New, portmapper, takeover, []]),
    wait_for_end(Old),
    ok = testkit:stop(Old),
    {Time div 1000, New}.

-spec is_running(testkit:vm()) -> boolean().
is_running(VM) ->
    Running = testkit:call(VM, application, which_applications, []),
    lists:keymember(portmapper, 1, Running).

-spec wait_for_end(testkit:vm()) -> ok.
wait_for_end(VM) ->
    testkit:wait_until(fun() -> not is_running(VM) end).

name(I) -> "node" ++ integer_to_list(I).

%% @doc Nodes with their connections, names and creations, held by this process.
-spec register_many(inet:port_number(), pos_integer()) -> [held()].
register_many(Port, Count) ->
    [
        begin
            {ok, Socket, Creation} = testkit:register(Port, name(I), 1000 + I),
            {Socket, name(I), Creation}
        end
     || I <- lists:seq(1, Count)
    ].

%% @doc Nodes from this number on, held by a process of their own until it is told to
%% `stop'.
-spec start_holder(inet:port_number(), pos_integer(), pos_integer()) -> pid().
start_holder(Port, From, Count) ->
    Owner = self(),
    %% Sockets of one address have a port each, as long as there are some.
    Own = [{ip, {127, 0, 1 + From div Count, 1}}],
    spawn_link(fun() ->
        Numbers = lists:seq(From, From + Count - 1),
        _ = [{ok, _, _} = testkit:register(Port, name(I), 1000 + I, Own) || I <- Numbers],
        Owner ! {self(), registered},
        receive
            stop -> ok
        end
    end).

%% @doc All are registered as they were, and their connections stand.
-spec assert_held(testkit:vm(), inet:port_number(), [held()]) -> true.
assert_held(VM, Port, Nodes) ->
    [
        ?assertMatch(
            {ok, #{creation := Creation}},
            testkit:call(VM, portmapper, lookup, [Name, #{holder => false}])
        )
     || {_, Name, Creation} <- sample(Nodes)
    ],
    ?assertEqual(length(Nodes), length(testkit:names(Port))),
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || {Socket, _, _} <- Nodes],
    true.

sample(Nodes) ->
    [Node || {I, Node} <- lists:enumerate(Nodes), I rem 50 =:= 1].

%% @doc Looks up names at random, and fails when one is not found.
-spec start_client(inet:port_number(), pos_integer()) -> pid().
start_client(Port, Count) ->
    spawn_link(fun() -> look_up(Port, Count) end).

%% @doc The same by the caller.
-spec look_up(inet:port_number(), pos_integer()) -> term().
look_up(Port, Count) ->
    client(Port, Count, 0, 0).

client(Port, Count, Lookups, Slowest) ->
    I = rand:uniform(Count),
    {Microseconds, Answer} = timer:tc(testkit, lookup, [Port, name(I)]),
    ?assertEqual({I, {ok, 1000 + I}}, {I, Answer}),
    Now = max(Slowest, Microseconds),
    receive
        {stop, From} -> From ! {self(), {Lookups + 1, Now div 1000}}
    after 0 -> client(Port, Count, Lookups + 1, Now)
    end.

%% @doc How often it has, and how many milliseconds the slowest took.
-spec stop_client(pid()) -> {pos_integer(), non_neg_integer()}.
stop_client(Client) ->
    Client ! {stop, self()},
    receive
        {Client, Figures} -> Figures
    end.

%% @doc Waits, more exactly than the timer.
-spec busy_wait(non_neg_integer()) -> ok.
busy_wait(Microseconds) ->
    busy_wait_until(erlang:monotonic_time(microsecond) + Microseconds).

busy_wait_until(Time) ->
    case erlang:monotonic_time(microsecond) < Time of
        true -> busy_wait_until(Time);
        false -> ok
    end.
