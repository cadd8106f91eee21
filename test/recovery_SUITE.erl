%% What of ours dies costs no node its registration and no client an answer.
-module(recovery_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    killed_processes_cost_nothing/1,
    a_thread_that_panics_costs_nothing/1,
    a_storm_of_panics_keeps_the_vm_idle/1,
    registrations_wait_five_seconds_for_the_application/1,
    an_application_that_finds_its_port_taken_ends/1,
    a_stop_leaves_nothing_behind/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        killed_processes_cost_nothing,
        a_thread_that_panics_costs_nothing,
        a_storm_of_panics_keeps_the_vm_idle,
        registrations_wait_five_seconds_for_the_application,
        an_application_that_finds_its_port_taken_ends,
        a_stop_leaves_nothing_behind
    ].

killed_processes_cost_nothing(_Config) ->
    {VM, Port} = start_quietly(),
    load:during(VM, Port, fun() ->
        Own = own_processes(VM),
        ?assertEqual([portmapper_events, portmapper_server, portmapper_sup], lists:sort(Own)),
        [kill_process(VM, Name) || _ <- lists:seq(1, 50), Name <- Own]
    end).

a_thread_that_panics_costs_nothing(_Config) ->
    {VM, Port} = start_quietly(),
    load:during(VM, Port, fun() ->
        [{panic(VM), testkit:lookup(Port, "nobody")} || _ <- lists:seq(1, 20)]
    end).

a_storm_of_panics_keeps_the_vm_idle(_Config) ->
    {VM, Port} = start_quietly(),
    {ok, _, Creation} = testkit:register(Port, "stays", 1001),
    {Before, _} = testkit:call(VM, erlang, statistics, [runtime]),
    Replaced = storm(VM, erlang:monotonic_time(millisecond) + 2000, 0),
    {After, _} = testkit:call(VM, erlang, statistics, [runtime]),
    ct:pal("~b threads and ~b ms of processor time in 2 s", [Replaced, After - Before]),
    ?assert(Replaced =< 25),
    ?assert(After - Before < 1000),
    ?assertMatch({ok, #{creation := Creation}}, testkit:call(VM, portmapper, lookup, [stays])),
    ?assertEqual({ok, 1001}, testkit:lookup(Port, "stays")).

%% Panics as soon as there is a thread: how often.
storm(VM, Until, Count) ->
    case erlang:monotonic_time(millisecond) < Until of
        true ->
            panic(VM),
            storm(VM, Until, Count + 1);
        false ->
            Count
    end.

registrations_wait_five_seconds_for_the_application(_Config) ->
    {Restarted, RestartedPort} = testkit:start_portmapper(),
    {Ended, EndedPort} = testkit:start_portmapper(),
    {ok, _, Creation} = testkit:register(RestartedPort, "stays", 1001),
    {ok, Socket, _} = testkit:register(EndedPort, "goes", 1002),
    Stays = testkit:call(Restarted, portmapper, lookup, [stays]),
    ?assertMatch({ok, #{creation := Creation}}, Stays),
    [
        begin
            ok = kill_application(Restarted, Killed(Restarted)),
            ?assertEqual({ok, 1001}, testkit:lookup(RestartedPort, "stays")),
            ok = testkit:call(Restarted, application, start, [portmapper])
        end
     || Killed <- [fun master/1, fun top_supervisor/1]
    ],

    ok = kill_application(Ended, top_supervisor(Ended)),
    ?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, 10_000)),
    testkit:wait_until(fun() -> is_free(EndedPort) end, 1000),
    ?assertEqual({ok, 1001}, testkit:lookup(RestartedPort, "stays")),
    ?assertEqual(Stays, testkit:call(Restarted, portmapper, lookup, [stays])),
    %% A new one serves where the old one did.
    ok = testkit:call(Ended, application, set_env, [portmapper, port, EndedPort]),
    ok = testkit:call(Ended, application, start, [portmapper]),
    ?assertEqual([], testkit:names(EndedPort)).

%% Restarted for nothing it would look alive for ever.
an_application_that_finds_its_port_taken_ends(_Config) ->
    {VM, _} = start_quietly(),
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, TakenPort} = inet:port(Taken),
    ok = testkit:call(VM, application, set_env, [portmapper, port, TakenPort]),
    Server = testkit:call(VM, portmapper_server, server, []),
    ok = testkit:call(VM, portmapper_nif, stop, [Server]),
    wait_for_end(VM).

a_stop_leaves_nothing_behind(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    ok = testkit:call(VM, application, set_env, [portmapper, port, Port]),
    ok = use_and_stop(VM, Port),
    Left = testkit:resources(VM),
    [
        begin
            ok = testkit:call(VM, application, start, [portmapper]),
            ok = use_and_stop(VM, Port)
        end
     || _ <- lists:seq(1, 50)
    ],
    testkit:wait_until(fun() -> testkit:resources(VM) =:= Left end).

use_and_stop(VM, Port) ->
    {ok, Registered, _} = testkit:register(Port, "node", 1001),
    Silent = testkit:connect(Port),
    ok = testkit:call(VM, portmapper, stop, []),
    ?assert(is_free(Port)),
    ?assertEqual({error, closed}, gen_tcp:recv(Registered, 0, 5000)),
    ?assertEqual({error, closed}, gen_tcp:recv(Silent, 0, 5000)).

%% Without what OTP and Rust say of a death.
start_quietly() ->
    Exec = {"/bin/sh", ["-c", "exec erl \"$@\" 2>/dev/null", "sh"]},
    testkit:start_portmapper(#{exec => Exec, logger_level => critical}).

own_processes(VM) ->
    [Name || Name <- testkit:call(VM, erlang, registered, []), is_own(atom_to_list(Name))].

is_own(Name) ->
    lists:prefix("portmapper", Name).

kill_process(VM, Name) ->
    Pid = testkit:call(VM, erlang, whereis, [Name]),
    true = testkit:call(VM, erlang, exit, [Pid, kill]),
    IsNew = fun(Now) -> is_pid(Now) andalso Now =/= Pid end,
    testkit:wait_until(fun() -> IsNew(testkit:call(VM, erlang, whereis, [Name])) end).

%% What the application stands on, of OTP and of ours.
master(VM) ->
    testkit:call(VM, application_controller, get_master, [portmapper]).

top_supervisor(VM) ->
    {Top, portmapper_app} = testkit:call(VM, application_master, get_child, [master(VM)]),
    Top.

kill_application(VM, Pid) ->
    true = testkit:call(VM, erlang, exit, [Pid, kill]),
    wait_for_end(VM).

wait_for_end(VM) ->
    Running = fun() -> testkit:call(VM, application, which_applications, []) end,
    testkit:wait_until(fun() -> not lists:keymember(portmapper, 1, Running()) end).

panic(VM) ->
    Thread = thread(VM),
    ok = testkit:call(VM, portmapper_nif, panic_thread, [server(VM)]),
    testkit:wait_until(fun() -> not lists:member(thread(VM), [Thread, none]) end).

%% The thread of the server.
thread(#{os_pid := Pid}) ->
    Names = filelib:wildcard("/proc/" ++ Pid ++ "/task/*/comm"),
    case [Name || Name <- Names, file:read_file(Name) =:= {ok, <<"epmd\n">>}] of
        [Thread] -> Thread;
        _ -> none
    end.

server(VM) ->
    testkit:call(VM, portmapper_server, server, []).

is_free(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [], 1000) of
        {error, econnrefused} -> true;
        {ok, Socket} -> gen_tcp:close(Socket) =/= ok
    end.
