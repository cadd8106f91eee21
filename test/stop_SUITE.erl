%% How a port mapper ends, and what its functions say then.
-module(stop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, end_per_testcase/2]).
%% Called in another VM.
-export([start_and_stop_under_load/1]).
-export([
    stop_closes_every_connection_and_frees_the_port/1,
    stop_is_safe_while_others_ask/1,
    kill_stops_the_application_and_the_vm_goes_on/1,
    kill_ends_a_vm_that_is_there_for_it/1,
    kill_is_refused_while_nodes_are_registered/1,
    kill_is_granted_when_checking_is_relaxed/1,
    kill_is_no_crash_when_events_wait/1,
    kill_is_no_crash_when_requests_are_logged/1,
    kill_is_not_lost_while_a_process_starts/1,
    every_function_tells_that_it_is_not_running/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        Case
     || {Case, 1} <- ?MODULE:module_info(exports),
        not lists:member(Case, [module_info, start_and_stop_under_load])
    ].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

start(Config) ->
    own_vm:start(Config#{port => own_vm:free_port()}).

stop_closes_every_connection_and_frees_the_port(_Config) ->
    Port = start(#{}),
    Nodes = [element(2, testkit:register(Port, [Name], 1)) || Name <- "abcdefgh"],
    Waiting = testkit:connect(Port),
    ok = testkit:wait_until(fun() -> maps:get(open_connections, portmapper:info()) =:= 9 end),
    ?assertEqual(ok, portmapper:stop()),
    ?assert(is_free(Port)),
    [?assertMatch({error, closed}, gen_tcp:recv(Each, 0, 10_000)) || Each <- [Waiting | Nodes]],
    ?assertEqual(Port, own_vm:start(#{port => Port})),
    ?assertEqual(0, portmapper:count()).

is_free(Port) ->
    gen_tcp:connect({127, 0, 0, 1}, Port, []) =:= {error, econnrefused}.

%% In a VM of its own, for what could go wrong would end it.
stop_is_safe_while_others_ask(_Config) ->
    Path = filename:absname(filename:dirname(code:which(?MODULE))),
    Schedulers = ["+S", "4:4", "+SDcpu", "4:4", "+SDio", "4"],
    {VM, _Port} = testkit:start_portmapper(#{args => Schedulers ++ ["-pa", Path]}),
    ?assertEqual(ok, testkit:call(VM, ?MODULE, start_and_stop_under_load, [400])),
    testkit:stop(VM).

start_and_stop_under_load(Rounds) ->
    lists:foreach(fun(_) -> start_and_stop_under_load() end, lists:seq(1, Rounds)).

start_and_stop_under_load() ->
    [{ok, _} = portmapper:register(integer_to_list(N), N) || N <- lists:seq(1, 500)],
    %% What fails because it is stopped does not matter.
    Ask = fun() -> try portmapper:names() catch _:_ -> stopped end end,
    Asking = [spawn_monitor(Ask) || _ <- "abcd"],
    ok = application:stop(portmapper),
    [receive {'DOWN', Monitor, process, _, normal} -> ok end || {_, Monitor} <- Asking],
    ok = application:start(portmapper).

kill_stops_the_application_and_the_vm_goes_on(_Config) ->
    Port = start(#{}),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    ?assert(is_free(Port)),
    ok = testkit:wait_until(fun is_stopped/0),
    ?assertEqual(Port, own_vm:start(#{port => Port})).

is_stopped() ->
    not lists:keymember(portmapper, 1, application:which_applications()).

kill_ends_a_vm_that_is_there_for_it(_Config) ->
    Ebin = filename:dirname(code:which(portmapper)),
    Port = integer_to_list(own_vm:free_port()),
    Program = [
        %% Should it fail to end.
        "{ok, _} = timer:apply_after(30000, erlang, halt, [9]),"
        "{ok, _} = application:ensure_all_started(portmapper, permanent),"
        "{ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ", Port, ", [{active, false}]),"
        "ok = gen_tcp:send(Socket, [0, 1, $k]),"
        "{ok, \"OK\"} = gen_tcp:recv(Socket, 2)."
    ],
    Environment = ["-portmapper", "port", Port, "addresses", "[\"127.0.0.1\"]"],
    Arguments = ["-noinput", "-pa", Ebin, "-eval", lists:append(Program) | Environment],
    {Status, Output} = testkit:run(["erl" | Arguments]),
    ?assertEqual({0, nomatch}, {Status, re:run(Output, "error|crash", [caseless])}).

kill_is_refused_while_nodes_are_registered(_Config) ->
    Port = start(#{}),
    {ok, Node, _} = testkit:register(Port, "n", 1),
    ?assertEqual(<<"NO">>, testkit:request(Port, "k")),
    ?assertEqual({ok, 1}, testkit:lookup(Port, "n")),
    ok = gen_tcp:close(Node),
    ok = testkit:wait_until(fun() -> portmapper:count() =:= 0 end),
    {ok, _} = portmapper:register("vm", 1),
    ?assertEqual(<<"NO">>, testkit:request(Port, "k")),
    ok = portmapper:unregister("vm"),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")).

kill_is_granted_when_checking_is_relaxed(_Config) ->
    Port = start(#{relaxed_command_check => true}),
    {ok, Node, _} = testkit:register(Port, "n", 1),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    ?assertEqual({error, closed}, gen_tcp:recv(Node, 0, 10_000)),
    ok = testkit:wait_until(fun is_stopped/0).

kill_is_no_crash_when_events_wait(_Config) ->
    Port = start(#{}),
    Monitor = monitor(process, portmapper_server),
    ok = sys:suspend(portmapper_server),
    ?assertEqual(<<>>, testkit:request(Port, "?")),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    ok = sys:resume(portmapper_server),
    receive
        {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(shutdown, Reason)
    end,
    ok = testkit:wait_until(fun is_stopped/0),
    ?assert(is_free(Port)).

%% As it is when the application has just begun to start.
%% What is told of the request comes before what is told of the KILL.
kill_is_no_crash_when_requests_are_logged(_Config) ->
    lists:foreach(fun(_) -> kill_while_requests_are_logged() end, lists:seq(1, 100)).

kill_while_requests_are_logged() ->
    Port = start(#{debug => 2, log_level => none}),
    Monitor = monitor(process, portmapper_server),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    receive
        {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(shutdown, Reason)
    end,
    testkit:wait_until(fun is_stopped/0).

kill_is_not_lost_while_a_process_starts(_Config) ->
    Port = start(#{}),
    Process = whereis(portmapper_server),
    ok = sys:suspend(Process),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    true = exit(Process, kill),
    ok = testkit:wait_until(fun is_stopped/0),
    ?assert(is_free(Port)).

every_function_tells_that_it_is_not_running(_Config) ->
    Calls = [
        {names, []},
        {names, ["*"]},
        {lookup, ["n"]},
        {count, []},
        {info, []},
        {register, ["n", 1]},
        {register, ["n", 1, #{}]},
        {unregister, ["n"]},
        {drop, ["n"]},
        {config, []},
        {reconfigure, [#{}]}
    ],
    [
        ?assertError({not_running, portmapper}, apply(portmapper, Function, Arguments))
     || {Function, Arguments} <- Calls
    ],
    ?assertEqual({error, {not_started, portmapper}}, portmapper:stop()).
