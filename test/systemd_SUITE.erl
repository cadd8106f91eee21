%% The release as a service: under a real systemd with the units of the project,
%% and under a manager of the suite's own that speaks the same protocol, which
%% needs no privilege.
-module(systemd_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([
    suite/0, all/0, groups/0,
    init_per_suite/1, end_per_suite/1,
    init_per_group/2, end_per_group/2,
    init_per_testcase/2, end_per_testcase/2
]).
-export([
    the_service_is_confined/1,
    the_units_are_valid/1,
    it_serves_on_sockets_that_it_was_given/1,
    it_is_the_main_process_that_tells/1,
    the_watchdog_hears_until_the_vm_stops/1,
    sigterm_ends_it_in_good_order/1,
    a_kill_ends_it_in_good_order/1,
    one_that_another_service_started_tells_nothing/1,
    who_connects_first_is_answered/1,
    start_waits_until_it_serves/1,
    the_status_counts_nodes/1,
    it_runs_as_a_user_that_may_do_nothing/1,
    a_vm_that_hangs_is_replaced/1,
    a_vm_that_was_killed_is_replaced/1,
    nodes_outlive_every_end_of_the_vm_but_a_stop/1,
    stop_is_orderly_and_the_next_client_starts_it/1,
    after_a_kill_it_is_down_until_somebody_connects/1
]).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    Groups = [manager, both, ipv4, ipv6, user],
    [the_service_is_confined | [{group, Group} || Group <- Groups]].

groups() ->
    Everywhere = [
        the_units_are_valid,
        who_connects_first_is_answered,
        start_waits_until_it_serves,
        stop_is_orderly_and_the_next_client_starts_it
    ],
    Once = [
        the_status_counts_nodes,
        it_runs_as_a_user_that_may_do_nothing,
        a_vm_that_hangs_is_replaced,
        a_vm_that_was_killed_is_replaced,
        nodes_outlive_every_end_of_the_vm_but_a_stop,
        after_a_kill_it_is_down_until_somebody_connects
    ],
    [
        {manager, [
            it_serves_on_sockets_that_it_was_given,
            it_is_the_main_process_that_tells,
            the_watchdog_hears_until_the_vm_stops,
            sigterm_ends_it_in_good_order,
            a_kill_ends_it_in_good_order,
            one_that_another_service_started_tells_nothing
        ]},
        {both, Everywhere ++ Once},
        {ipv4, Everywhere},
        {ipv6, Everywhere},
        {user, [
            the_units_are_valid,
            who_connects_first_is_answered,
            nodes_outlive_every_end_of_the_vm_but_a_stop
        ]}
    ].

init_per_suite(Config) ->
    [{release, release:root()} | Config].

end_per_suite(_Config) ->
    ok.

init_per_group(manager, Config) ->
    Config;
init_per_group(user, Config) ->
    start_host(both, fun systemd_host:user/1, Config);
init_per_group(Families, Config) ->
    start_host(Families, fun(Host) -> Host end, Config).

start_host(Families, As, Config) ->
    Options = #{data => ?config(data_dir, Config), release => ?config(release, Config)},
    case systemd_host:start(Families, Options) of
        {ok, Host} -> [{host, As(Host)}, {families, Families} | Config];
        {error, Reason} -> {skip, Reason}
    end.

end_per_group(manager, _Config) ->
    ok;
end_per_group(_Families, Config) ->
    systemd_host:stop(?config(host, Config)).

init_per_testcase(_Case, Config) ->
    case ?config(host, Config) of
        undefined ->
            Config;
        Host ->
            %% As after booting, with nothing counted.
            {0, _} = systemd_host:systemctl(Host, ["stop", "epmd.service", "epmd.socket"]),
            _ = systemd_host:systemctl(Host, ["reset-failed"]),
            {0, _} = systemd_host:systemctl(Host, ["start", "epmd.socket"]),
            Config
    end.

end_per_testcase(_Case, Config) ->
    case {?config(tc_status, Config), ?config(host, Config)} of
        {{failed, _}, Host} when Host =/= undefined ->
            Status = ["status", "--no-pager", "epmd.service", "epmd.socket"],
            {_, Seen} = systemd_host:systemctl(Host, Status),
            Cat = "cat \"${XDG_RUNTIME_DIR-/run}\"/epmd.log",
            {_, Log} = systemd_host:run(Host, ["sh", "-c", Cat]),
            ct:pal("~ts~n~ts", [Seen, Log]);
        _ ->
            ok
    end.

%% The unit itself.

the_service_is_confined(_Config) ->
    case os:find_executable("systemd-analyze") of
        false ->
            {skip, "no systemd-analyze"};
        _ ->
            Unit = filename:join(program:root(), "systemd/epmd.service"),
            %% In tenths.
            Options = ["--offline=true", "--no-pager", "--threshold=15"],
            {Status, Output} = testkit:run(["systemd-analyze", "security"] ++ Options ++ [Unit]),
            ?assertEqual({0, Output}, {Status, Output})
    end.

the_units_are_valid(Config) ->
    Host = ?config(host, Config),
    Names = ["epmd.service", "epmd.socket"],
    Units = [filename:join(systemd_host:units(Host), Name) || Name <- Names],
    Verify = [systemd_host:manager(Host), "verify", "--man=no"],
    {Status, Output} = run(Config, ["systemd-analyze" | Verify ++ Units]),
    %% Known from systemd 254 on.
    Newer = "^.*Unknown key 'FileDescriptorStorePreserve' in section \\[Service\\], ignoring\\.\n",
    ?assertEqual({0, ""}, {Status, re:replace(Output, Newer, "", [multiline, {return, list}])}).

%% Under a manager of the suite's own.

start_manager(Config, WatchdogMilliseconds) ->
    Script = filename:join(?config(data_dir, Config), "manager.py"),
    Microseconds = integer_to_list(WatchdogMilliseconds * 1000),
    Service = [filename:join(?config(release, Config), "bin/epmd"), "-systemd"],
    Manager = program:start(["python3", Script, Microseconds | Service], []),
    {match, [Port]} = re:run(
        program:await(Manager, "port \\d+\n"), "port (\\d+)", [{capture, [1], list}]
    ),
    {Manager, list_to_integer(Port)}.

%% Its end is that of the service.
stop_manager(Manager) ->
    true = port_close(Manager),
    ok.

it_serves_on_sockets_that_it_was_given(Config) ->
    {Manager, Port} = start_manager(Config, 60_000),
    %% Before it runs.
    Client = testkit:connect(Port),
    ok = gen_tcp:send(Client, <<1:16, "n">>),
    ok = program:send(Manager, "start\n"),
    ?assertEqual({ok, <<Port:32>>}, gen_tcp:recv(Client, 0, 30_000)),
    Told = program:await(Manager, "STATUS=.*\n"),
    Loopback = io_lib:format("127.0.0.1:~b", [Port]),
    ?assertMatch({_, _}, binary:match(Told, <<"told READY=1\n">>)),
    ?assertMatch({_, _}, binary:match(Told, iolist_to_binary(Loopback))),
    {ok, Node, _} = testkit:register(Port, "n1", 1),
    _ = program:await(Manager, "STATUS=1 node registered"),
    ok = gen_tcp:close(Node),
    _ = program:await(Manager, "STATUS=0 nodes registered"),
    stop_manager(Manager).

it_is_the_main_process_that_tells(Config) ->
    {Manager, _Port} = start_manager(Config, 200),
    ok = program:send(Manager, "start\n"),
    Told = program:await(Manager, "(WATCHDOG=1\n[^!]*){3}"),
    ok = program:send(Manager, "signal TERM\n"),
    Ending = program:await(Manager, "ended 0\n"),
    ?assertEqual(nomatch, re:run([Told, Ending], "stranger")),
    stop_manager(Manager).

the_watchdog_hears_until_the_vm_stops(Config) ->
    {Manager, Port} = start_manager(Config, 400),
    ok = program:send(Manager, "start\n"),
    _ = program:await(Manager, "(WATCHDOG=1\n[^!]*){5}"),
    ok = program:send(Manager, "signal STOP\n"),
    ok = testkit:wait_until(fun() -> is_told_nothing_for(Manager, 300) end),
    ?assert(is_told_nothing_for(Manager, 1000)),
    %% As a manager does then, that keeps the sockets.
    ok = program:send(Manager, "signal KILL\n"),
    _ = program:await(Manager, "ended -9\n"),
    Client = testkit:connect(Port),
    ok = gen_tcp:send(Client, <<1:16, "n">>),
    ok = program:send(Manager, "start\n"),
    ?assertEqual({ok, <<Port:32>>}, gen_tcp:recv(Client, 0, 30_000)),
    _ = program:await(Manager, "WATCHDOG=1\n"),
    stop_manager(Manager).

is_told_nothing_for(Manager, Milliseconds) ->
    receive
        {Manager, {data, _}} -> false
    after Milliseconds -> true
    end.

sigterm_ends_it_in_good_order(Config) ->
    {Manager, Port} = start_manager(Config, 60_000),
    ok = program:send(Manager, "start\n"),
    _ = program:await(Manager, "READY=1\n"),
    {ok, _Node, _} = testkit:register(Port, "n1", 1),
    %% It serves before the VM has told itself that the application is started.
    _ = program:await(Manager, "STATUS=1 node registered"),
    ok = program:send(Manager, "signal TERM\n"),
    Told = program:await(Manager, "ended 0\n"),
    ?assertMatch({match, _}, re:run(Told, "STOPPING=1\n")),
    stop_manager(Manager).

a_kill_ends_it_in_good_order(Config) ->
    {Manager, Port} = start_manager(Config, 60_000),
    ok = program:send(Manager, "start\n"),
    _ = program:await(Manager, "READY=1\n"),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    Told = program:await(Manager, "ended 0\n"),
    ?assertMatch({match, _}, re:run(Told, "STOPPING=1\n")),
    stop_manager(Manager).

one_that_another_service_started_tells_nothing(Config) ->
    Manager = service_manager:start(),
    Port = own_vm:free_port(),
    Variables = [{"WATCHDOG_USEC", "100000"} | service_manager:environment(Manager)],
    Environment = {env, program:environment(testkit:epmd_port(Port) ++ Variables)},
    Epmd = filename:join(?config(release, Config), "bin/epmd"),
    {0, <<>>} = testkit:run([Epmd, "-daemon", "-address", "127.0.0.1"], [Environment]),
    ?assertEqual([], testkit:names(Port)),
    ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
    ?assert(service_manager:is_told_nothing(Manager, 500)),
    ok = service_manager:stop(Manager).

%% Under systemd.

run(Config, Command) ->
    systemd_host:run(?config(host, Config), Command).

systemctl(Config, Arguments) ->
    systemd_host:systemctl(?config(host, Config), Arguments).

show(Config, Property) ->
    systemd_host:show(?config(host, Config), Property).

state(Config, Unit) ->
    systemd_host:show(?config(host, Config), "ActiveState", Unit).

epmd(Config, Arguments) ->
    run(Config, ["/opt/portmapper/bin/epmd" | Arguments]).

no_names() ->
    {0, <<"epmd: up and running on port 4369 with data:\n">>}.

start(Config) ->
    ?assertEqual({0, <<>>}, systemctl(Config, ["start", "epmd.service"])),
    show(Config, "MainPID").

await_state(Config, State) ->
    testkit:wait_until(fun() -> state(Config, "epmd.service") =:= State end, 60_000).

who_connects_first_is_answered(Config) ->
    ?assertEqual("inactive", state(Config, "epmd.service")),
    ?assertEqual(no_names(), epmd(Config, ["-names"])),
    ok = await_state(Config, "active").

start_waits_until_it_serves(Config) ->
    _ = start(Config),
    Listening = "listening on 0.0.0.0:4369, [::]:4369",
    ?assertEqual("0 nodes registered; " ++ Listening, show(Config, "StatusText")),
    ?assertEqual("running", show(Config, "SubState")),
    ?assertEqual(no_names(), epmd(Config, ["-names"])).

the_status_counts_nodes(Config) ->
    _ = start(Config),
    Arguments = ["-name", "n1@127.0.0.1", "-start_epmd", "false", "-noinput"],
    Node = systemd_host:start_program(?config(host, Config), ["erl" | Arguments]),
    Shows = fun(Text) ->
        fun() -> lists:prefix(Text, show(Config, "StatusText")) end
    end,
    ok = testkit:wait_until(Shows("1 node registered;"), 60_000),
    {0, <<"epmd: up and running on port 4369 with data:\nname n1 at port ", _/binary>>} =
        epmd(Config, ["-names"]),
    ok = program:stop(Node),
    ok = testkit:wait_until(Shows("0 nodes registered;"), 60_000).

it_runs_as_a_user_that_may_do_nothing(Config) ->
    Pid = start(Config),
    {0, Status} = run(Config, ["cat", "/proc/" ++ Pid ++ "/status"]),
    Field = fun(Name) ->
        {match, [Value]} = re:run(
            Status, "^" ++ Name ++ ":\\s+(\\S+)", [multiline, {capture, [1], list}]
        ),
        Value
    end,
    ?assertNotEqual("0", Field("Uid")),
    ?assertEqual("0000000000000000", Field("CapBnd")),
    ?assertEqual("1", Field("NoNewPrivs")),
    ?assertEqual("2", Field("Seccomp")).

a_vm_that_hangs_is_replaced(Config) ->
    Pid = start(Config),
    {0, _} = run(Config, ["kill", "-STOP", Pid]),
    ok = testkit:wait_until(
        fun() -> not lists:member(show(Config, "MainPID"), ["0", Pid]) end, 60_000
    ),
    ok = await_state(Config, "active"),
    ?assertEqual("1", show(Config, "NRestarts")),
    ?assertEqual(no_names(), epmd(Config, ["-names"])).

a_vm_that_was_killed_is_replaced(Config) ->
    Pid = start(Config),
    {0, _} = run(Config, ["kill", "-KILL", Pid]),
    %% The port was open all the time.
    ?assertEqual(no_names(), epmd(Config, ["-names"])),
    ok = await_state(Config, "active"),
    ?assertNotEqual(Pid, show(Config, "MainPID")).

%% More of them than a process may have files open by default.
nodes_outlive_every_end_of_the_vm_but_a_stop(Config) ->
    Count = 1500,
    Pid = start(Config),
    %% Its file need not be there for that host, which has a /tmp of its own.
    {ok, Script} = file:read_file(filename:join(?config(data_dir, Config), "nodes.py")),
    Program = ["python3", "-c", binary_to_list(Script), integer_to_list(Count)],
    Nodes = systemd_host:start_program(?config(host, Config), Program),
    _ = program:await(Nodes, "registered\n"),
    %% With the records of them.
    ok = testkit:wait_until(fun() -> stored(Config) =:= Count + 1 end, 60_000),
    [
        begin
            {0, _} = End(),
            {0, Names} = epmd(Config, ["-names"]),
            ?assertEqual(Count + 1, length(string:lexemes(Names, "\n"))),
            ok = program:send(Nodes, "\n"),
            _ = program:await(Nodes, "closed 0\n")
        end
     || End <- [
            fun() -> run(Config, ["kill", "-KILL", Pid]) end,
            fun() -> systemctl(Config, ["restart", "epmd.service"]) end
        ]
    ],
    {0, _} = systemctl(Config, ["stop", "epmd.service"]),
    ok = program:send(Nodes, "\n"),
    %% By FileDescriptorStorePreserve.
    Ended = case version(Config) >= 254 of true -> 0; false -> Count end,
    _ = program:await(Nodes, io_lib:format("closed ~b\n", [Ended])),
    ok = program:stop(Nodes).

version(Config) ->
    {0, Text} = run(Config, ["systemctl", "--version"]),
    {match, [Version]} = re:run(Text, "^systemd (\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Version).

stored(Config) ->
    list_to_integer(show(Config, "NFileDescriptorStore")).

stop_is_orderly_and_the_next_client_starts_it(Config) ->
    _ = start(Config),
    {0, _} = systemctl(Config, ["stop", "epmd.service"]),
    ?assertEqual(
        {"inactive", "success", "1", "0"},
        {
            state(Config, "epmd.service"),
            show(Config, "Result"),
            %% CLD_EXITED
            show(Config, "ExecMainCode"),
            show(Config, "ExecMainStatus")
        }
    ),
    ?assertEqual("active", state(Config, "epmd.socket")),
    ?assertEqual(no_names(), epmd(Config, ["-names"])).

after_a_kill_it_is_down_until_somebody_connects(Config) ->
    _ = start(Config),
    ?assertEqual({0, <<"Killed\n">>}, epmd(Config, ["-kill"])),
    ok = await_state(Config, "inactive"),
    ?assertEqual({"success", "0"}, {show(Config, "Result"), show(Config, "NRestarts")}),
    ?assertEqual("active", state(Config, "epmd.socket")),
    ?assertEqual(no_names(), epmd(Config, ["-names"])),
    ok = await_state(Config, "active").
