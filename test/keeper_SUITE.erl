%% The keeper of the release: what nodes notice of a VM that is killed, and what
%% is left when it is to end.
-module(keeper_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    twenty_kills_lose_no_node_and_no_lookup/1,
    a_real_node_notices_nothing/1,
    a_node_that_ended_meanwhile_is_not_listed/1,
    the_name_of_a_node_that_ended_meanwhile_can_be_had/1,
    as_first_process_of_a_container_it_loses_no_node/1,
    as_first_process_it_tells_whoever_waits_outside/1,
    in_the_foreground_it_loses_no_node_and_tells/1,
    in_the_background_it_tells_the_system_log/1,
    a_stopped_node_is_closed_though_the_keeper_has_its_connection/1,
    the_port_is_free_when_kill_is_answered/1,
    the_port_is_free_when_sigterm_has_ended_it/1,
    sigterm_for_the_vm_ends_the_keeper_too/1,
    the_vm_serves_on_without_its_keeper/1
]).

suite() ->
    [{timetrap, {seconds, 120}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

twenty_kills_lose_no_node_and_no_lookup(Config) ->
    Port = ?config(port, Config),
    _ = release:daemon(Port),
    Nodes = register_many(Port, 300),
    {Looking, Monitor} = spawn_monitor(fun() -> exit({cut_off, look_up(Port, 300, 0)}) end),
    [kill_vm(Port) || _ <- lists:seq(1, 20)],
    Looking ! stop,
    receive
        %% By a VM that had accepted it when it was killed: of one client, one each.
        {'DOWN', Monitor, process, Looking, Reason} ->
            ?assertMatch({cut_off, Count} when Count =< 20, Reason)
    end,
    are_registered(Port, Nodes).

%% Kills it, and waits for the next one.
kill_vm(Port) ->
    Pid = release:pid(Port),
    {0, _} = testkit:run(["kill", "-9", Pid]),
    ?assertNotEqual(Pid, release:pid(Port)),
    Pid.

register_many(Port, Count) ->
    [
        begin
            {ok, Socket, Creation} = testkit:register(Port, name(Number), Number),
            {Number, Socket, Creation}
        end
     || Number <- lists:seq(1, Count)
    ].

name(Number) ->
    ["n", integer_to_list(Number)].

%% These and no others are registered, and the next life of one would not be taken
%% for it.
are_registered(Port, Nodes) ->
    Expected = lists:sort([{iolist_to_binary(name(Number)), Number} || {Number, _, _} <- Nodes]),
    ?assertEqual(Expected, lists:sort(testkit:names(Port))),
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || {_, Socket, _} <- Nodes],
    {Number, Socket, Creation} = hd(Nodes),
    ok = gen_tcp:close(Socket),
    ok = testkit:wait_until(fun() -> testkit:lookup(Port, name(Number)) =:= not_found end),
    {ok, _, Next} = testkit:register(Port, name(Number), Number),
    ?assertEqual(Creation + 1, Next).

%% Looks one up after the other; how many were not answered.
look_up(Port, Count, CutOff) ->
    receive
        stop -> CutOff
    after 0 ->
        Number = rand:uniform(Count),
        Socket = testkit:connect(Port),
        Name = iolist_to_binary(name(Number)),
        ok = gen_tcp:send(Socket, [<<(byte_size(Name) + 1):16, $z>>, Name]),
        Reply = gen_tcp:recv(Socket, 4, 20_000),
        ok = gen_tcp:close(Socket),
        case Reply of
            {ok, <<$w, 0, Number:16>>} -> look_up(Port, Count, CutOff);
            {error, closed} -> look_up(Port, Count, CutOff + 1);
            {error, econnreset} -> look_up(Port, Count, CutOff + 1)
        end
    end.

a_real_node_notices_nothing(Config) ->
    Port = ?config(port, Config),
    _ = release:daemon(Port),
    Nodes = [First | _] = testkit:start_nodes([a, b], Port),
    Listed = lists:sort(release:names(Port)),
    Creation = testkit:call(First, erlang, system_info, [creation]),
    _ = kill_vm(Port),
    ?assertEqual(Listed, lists:sort(release:names(Port))),
    ?assertEqual(pong, testkit:call(First, net_adm, ping, ['b@127.0.0.1'])),
    ?assertEqual(Creation, testkit:call(First, erlang, system_info, [creation])),
    [ok = testkit:stop(Node) || Node <- Nodes],
    ok = testkit:wait_until(fun() -> release:names(Port) =:= [] end).

a_node_that_ended_meanwhile_is_not_listed(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {ok, Ended, _} = testkit:register(Port, "ended", 4711),
    {ok, _Living, _} = testkit:register(Port, "living", 4712),
    %% Nobody sees it.
    {0, _} = testkit:run(["kill", "-STOP", Pid]),
    ok = gen_tcp:close(Ended),
    {0, _} = testkit:run(["kill", "-9", Pid]),
    ?assertEqual([<<"name living at port 4712">>], release:names(Port)).

the_name_of_a_node_that_ended_meanwhile_can_be_had(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {ok, Ended, Creation} = testkit:register(Port, "n", 4711),
    {0, _} = testkit:run(["kill", "-STOP", Pid]),
    ok = gen_tcp:close(Ended),
    {0, _} = testkit:run(["kill", "-9", Pid]),
    {ok, _Again, Next} = testkit:register(Port, "n", 4712),
    ?assertEqual(Creation + 1, Next).

as_first_process_of_a_container_it_loses_no_node(Config) ->
    Port = ?config(port, Config),
    Epmd = container(Port, []),
    _ = program:await(Epmd, "listens on"),
    Nodes = register_many(Port, 3),
    [Pid] = release:vms(Port),
    Init = release:keeper(Pid),
    {0, _} = testkit:run(["kill", "-9", Pid]),
    are_registered(Port, Nodes),
    ok = testkit:wait_until(fun() -> length(release:vms(Port)) =:= 1 end),
    {0, _} = testkit:run(["kill", Init]),
    ?assertMatch({0, _}, program:await_exit(Epmd)),
    ok = release:await_end(Port).

as_first_process_it_tells_whoever_waits_outside(Config) ->
    Port = ?config(port, Config),
    Manager = service_manager:start(),
    Epmd = container(Port, service_manager:environment(Manager)),
    [<<"READY=1">>, <<"STATUS=0 nodes", _/binary>>] = service_manager:next(Manager),
    {ok, _Socket, _} = testkit:register(Port, "n", 4711),
    [<<"STATUS=1 node ", _/binary>>] = service_manager:next(Manager),
    [Pid] = release:vms(Port),
    {0, _} = testkit:run(["kill", release:keeper(Pid)]),
    ?assertEqual([<<"STOPPING=1">>, <<"STATUS=Stopping">>], service_manager:next(Manager)),
    ?assertMatch({0, _}, program:await_exit(Epmd)),
    ok = service_manager:stop(Manager).

container(Port, Variables) ->
    Unshare = ["unshare", "--pid", "--fork", "--mount-proc"],
    os:find_executable("unshare") =/= false andalso
        element(1, testkit:run(Unshare ++ ["true"])) =:= 0 orelse
        throw({skip, "no pid namespaces here (not root?)"}),
    release:start(Port, Unshare ++ ["--kill-child", release:epmd()], Variables).

in_the_foreground_it_loses_no_node_and_tells(Config) ->
    Port = ?config(port, Config),
    Epmd = release:start(Port, [release:epmd()], []),
    _ = program:await(Epmd, "listens on"),
    Nodes = register_many(Port, 3),
    _ = kill_vm(Port),
    Output = program:await(Epmd, "goes on with 3 nodes; 0 are gone\n"),
    Told = "\nepmd: the Erlang virtual machine was ended by signal 9; the next one gets \\d+ sockets, in 0 ms\n",
    ?assertMatch({match, _}, re:run(["\n", Output], Told)),
    are_registered(Port, Nodes).

in_the_background_it_tells_the_system_log(Config) ->
    system_log:available() orelse throw({skip, "no mount namespaces here (not root?)"}),
    Port = ?config(port, Config),
    Test = fun(Log) ->
        Script = system_log:script(Log, "$EPMD -daemon"),
        ?assertEqual({0, <<>>}, release:shell(Port, Script)),
        {notice, <<"portmapper listens on ", _/binary>>} = system_log:next(Log),
        _ = kill_vm(Port),
        {error, <<"the Erlang virtual machine was ended by signal 9; ", _/binary>>} =
            system_log:next(Log),
        ok
    end,
    system_log:with(Test).

a_stopped_node_is_closed_though_the_keeper_has_its_connection(Config) ->
    Port = ?config(port, Config),
    {0, <<>>} = release:run(Port, ["-daemon", "-relaxed_command_check"]),
    {ok, Socket, _} = testkit:register(Port, "n", 4711),
    ?assertEqual({0, <<"STOPPED\n">>}, release:run(Port, ["-stop", "n"])),
    ?assertEqual(<<>>, testkit:receive_all(Socket)),
    _ = kill_vm(Port),
    ?assertEqual([], release:names(Port)).

the_port_is_free_when_kill_is_answered(Config) ->
    Port = ?config(port, Config),
    [
        begin
            {0, <<>>} = release:run(Port, ["-daemon", "-relaxed_command_check"]),
            {ok, Socket, _} = testkit:register(Port, "n", 4711),
            ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
            ?assert(release:is_free(Port)),
            ?assertEqual(<<>>, testkit:receive_all(Socket)),
            ok = release:await_end(Port)
        end
     || _ <- lists:seq(1, 5)
    ].

the_port_is_free_when_sigterm_has_ended_it(Config) ->
    Port = ?config(port, Config),
    Epmd = release:start(Port, [release:epmd()], []),
    _ = program:await(Epmd, "listens on"),
    {ok, Socket, _} = testkit:register(Port, "n", 4711),
    {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
    {0, _} = testkit:run(["kill", integer_to_list(Pid)]),
    ?assertMatch({0, _}, program:await_exit(Epmd)),
    ?assert(release:is_free(Port)),
    ?assertEqual([], release:processes(Port)),
    ?assertEqual(<<>>, testkit:receive_all(Socket)).

sigterm_for_the_vm_ends_the_keeper_too(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {0, _} = testkit:run(["kill", Pid]),
    ok = release:await_end(Port).

the_vm_serves_on_without_its_keeper(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {ok, Before, _} = testkit:register(Port, "before", 4711),
    Keeper = release:keeper(Pid),
    {0, _} = testkit:run(["kill", "-9", Keeper]),
    ok = testkit:wait_until(fun() -> not lists:member(Keeper, release:processes(Port)) end),
    {ok, _After, _} = testkit:register(Port, "after", 4712),
    Listed = [<<"name after at port 4712">>, <<"name before at port 4711">>],
    ?assertEqual(Listed, release:names(Port)),
    ok = gen_tcp:close(Before),
    ok = testkit:wait_until(fun() -> release:names(Port) =:= [hd(Listed)] end),
    ?assertEqual(Pid, release:pid(Port)),
    {0, _} = testkit:run(["kill", Pid]),
    ok = release:await_end(Port).
