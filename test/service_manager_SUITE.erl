%% What a service manager is told, and that it hears of owner and thread alike.
-module(service_manager_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    it_is_told_that_the_port_mapper_serves/1,
    its_status_shows_the_number_of_nodes/1,
    it_is_told_nothing_unless_that_is_asked_for/1,
    it_is_told_of_a_stop/1,
    it_is_told_of_a_kill/1,
    it_is_told_when_sigterm_ends_the_vm/1,
    it_is_told_once_again_after_another_start/1,
    its_watchdog_hears_as_long_as_the_owner_works/1,
    its_watchdog_hears_of_an_owner_that_was_restarted/1,
    its_watchdog_may_be_for_another_process/1,
    wrong_variables_are_told_as_text/1,
    one_that_is_gone_is_no_obstacle/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

init_per_testcase(_Case, Config) ->
    ok = own_vm:stop(),
    [{manager, service_manager:start()} | Config].

end_per_testcase(_Case, Config) ->
    ok = own_vm:stop(),
    service_manager:stop(manager(Config)).

manager(Config) ->
    proplists:get_value(manager, Config).

%% Starts a port mapper under this manager; its port.
start(Manager) ->
    start(Manager, [], #{}).

start(Manager, Variables, Application) ->
    ok = try_start(service_manager:environment(Manager) ++ Variables, Application),
    own_vm:port().

try_start(Variables, Application) ->
    ok = own_vm:stop(),
    [true = os:putenv(Name, Value) || {Name, Value} <- Variables],
    Loopback = #{port => 0, addresses => ["127.0.0.1"], systemd => true},
    own_vm:try_start(maps:merge(Loopback, Application)).

watchdog(Milliseconds) ->
    {"WATCHDOG_USEC", integer_to_list(Milliseconds * 1000)}.

status(Nodes) ->
    #{addresses := Addresses} = portmapper:info(),
    Texts = lists:join(", ", [portmapper_text:address(Each) || Each <- Addresses]),
    iolist_to_binary(["STATUS=", Nodes, " registered; listening on ", Texts]).

it_is_told_that_the_port_mapper_serves(Config) ->
    Manager = manager(Config),
    Port = start(Manager),
    ?assertEqual([<<"READY=1">>, status("0 nodes")], service_manager:next(Manager)),
    ?assertEqual([], testkit:names(Port)).

its_status_shows_the_number_of_nodes(Config) ->
    Manager = manager(Config),
    Port = start(Manager),
    {ok, Socket, _} = testkit:register(Port, "n1", 1),
    ok = service_manager:await(Manager, status("1 node")),
    {ok, _} = portmapper:register("own", 1),
    ok = service_manager:await(Manager, status("2 nodes")),
    ok = gen_tcp:close(Socket),
    ok = service_manager:await(Manager, status("1 node")).

it_is_told_nothing_unless_that_is_asked_for(Config) ->
    Manager = manager(Config),
    Port = start(Manager, [watchdog(50)], #{systemd => false}),
    ?assertEqual([], testkit:names(Port)),
    ok = own_vm:stop(),
    ?assert(service_manager:is_told_nothing(Manager, 100)).

it_is_told_of_a_stop(Config) ->
    Manager = manager(Config),
    _ = start(Manager),
    [<<"READY=1">> | _] = service_manager:next(Manager),
    ok = portmapper:stop(),
    ?assertEqual([<<"STOPPING=1">>, <<"STATUS=Stopping">>], service_manager:next(Manager)),
    ?assert(service_manager:is_told_nothing(Manager, 100)).

it_is_told_of_a_kill(Config) ->
    Manager = manager(Config),
    Port = start(Manager),
    [<<"READY=1">> | _] = service_manager:next(Manager),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    ok = service_manager:await(Manager, <<"STOPPING=1">>),
    ok = testkit:wait_until(fun() -> whereis(portmapper_sup) =:= undefined end),
    ?assert(service_manager:is_told_nothing(Manager, 100)).

it_is_told_when_sigterm_ends_the_vm(Config) ->
    Manager = manager(Config),
    {#{os_pid := Pid, peer := Peer}, _Port} = testkit:start_portmapper(#{
        env => service_manager:environment(Manager), config => #{systemd => true}
    }),
    Monitor = monitor(process, Peer),
    [<<"READY=1">> | _] = service_manager:next(Manager),
    {0, _} = testkit:run(["kill", "-TERM", Pid]),
    ok = service_manager:await(Manager, <<"STOPPING=1">>),
    receive
        {'DOWN', Monitor, process, Peer, _} -> ok
    end.

it_is_told_once_again_after_another_start(Config) ->
    Manager = manager(Config),
    _ = start(Manager),
    ok = service_manager:await(Manager, <<"READY=1">>),
    ok = application:stop(portmapper),
    ok = service_manager:await(Manager, <<"STOPPING=1">>),
    ok = application:start(portmapper),
    ok = service_manager:await(Manager, <<"READY=1">>).

its_watchdog_hears_as_long_as_the_owner_works(Config) ->
    Manager = manager(Config),
    _ = start(Manager, [watchdog(200), {"WATCHDOG_PID", os:getpid()}], #{}),
    [ok = service_manager:await(Manager, <<"WATCHDOG=1">>) || _ <- lists:seq(1, 5)],
    ok = sys:suspend(portmapper_server),
    %% What it had said before.
    ok = testkit:wait_until(fun() -> service_manager:is_told_nothing(Manager, 150) end),
    ?assert(service_manager:is_told_nothing(Manager, 600)),
    ok = sys:resume(portmapper_server),
    [ok = service_manager:await(Manager, <<"WATCHDOG=1">>) || _ <- lists:seq(1, 3)],
    %% The thread is part of it: it answers for itself once it is replaced.
    ok = portmapper_nif:panic_thread(portmapper_server:server()),
    [ok = service_manager:await(Manager, <<"WATCHDOG=1">>) || _ <- lists:seq(1, 3)].

its_watchdog_hears_of_an_owner_that_was_restarted(Config) ->
    Manager = manager(Config),
    _ = start(Manager, [watchdog(200)], #{}),
    ok = service_manager:await(Manager, <<"WATCHDOG=1">>),
    Owner = whereis(portmapper_server),
    exit(Owner, kill),
    ok = testkit:wait_until(fun() ->
        not lists:member(whereis(portmapper_server), [Owner, undefined])
    end),
    [ok = service_manager:await(Manager, <<"WATCHDOG=1">>) || _ <- lists:seq(1, 5)].

its_watchdog_may_be_for_another_process(Config) ->
    Manager = manager(Config),
    _ = start(Manager, [watchdog(100), {"WATCHDOG_PID", "1"}], #{}),
    [<<"READY=1">> | _] = service_manager:next(Manager),
    ?assert(service_manager:is_told_nothing(Manager, 500)).

wrong_variables_are_told_as_text(_Config) ->
    Socket = ", expected the absolute path of a Unix socket, or @ and the name of an abstract one",
    Wrong = [
        {"NOTIFY_SOCKET", "run/x", "\"run/x\"" ++ Socket},
        {"NOTIFY_SOCKET", "@", "\"@\"" ++ Socket},
        {"WATCHDOG_USEC", "1s", "\"1s\", expected a number of microseconds, at least 1"},
        {"WATCHDOG_PID", "me", "\"me\", expected a process number"}
    ],
    [
        begin
            {error, Reason} = try_start([{Name, Value}], #{}),
            ?assertEqual(
                Name ++ " is " ++ Text,
                unicode:characters_to_list(portmapper:format_error(Reason))
            )
        end
     || {Name, Value, Text} <- Wrong
    ],
    ok.

one_that_is_gone_is_no_obstacle(_Config) ->
    ok = try_start([{"NOTIFY_SOCKET", "/nowhere/manager"}, watchdog(100)], #{}),
    ?assertEqual([], testkit:names(own_vm:port())).
