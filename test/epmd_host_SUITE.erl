%% Nodes whose `-epmd_module' is ours are the port mapper of their host themselves, also while
%% distribution and the application start and stop in them.
-module(epmd_host_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_host_serves_and_is_registered_without_a_connection/1,
    a_host_does_not_start_where_the_port_is_taken/1,
    a_wrong_mode_is_named/1,
    the_mode_may_come_from_the_environment/1,
    a_host_that_does_not_listen_serves/1,
    distribution_starts_and_stops_and_renames_the_node/1,
    the_application_in_a_host_shares_its_server/1,
    the_application_in_a_client_waits_for_its_turn/1,
    distribution_in_a_vm_that_serves_shares_its_server/1
]).

suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [
        a_host_serves_and_is_registered_without_a_connection,
        a_host_does_not_start_where_the_port_is_taken,
        a_wrong_mode_is_named,
        the_mode_may_come_from_the_environment,
        a_host_that_does_not_listen_serves,
        distribution_starts_and_stops_and_renames_the_node,
        the_application_in_a_host_shares_its_server,
        the_application_in_a_client_waits_for_its_turn,
        distribution_in_a_vm_that_serves_shares_its_server
    ].

init_per_suite(Config) ->
    [{place, epmd_node:place()} | Config].

end_per_suite(Config) ->
    epmd_node:leave(?config(place, Config)).

a_host_serves_and_is_registered_without_a_connection(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, host, Port),
    ?assertMatch(
        {ok, #{peer := vm, type := 77}}, testkit:call(Host, portmapper, lookup, [host])
    ),
    ?assertEqual(
        epmd_node:creation(Host, host), testkit:call(Host, erlang, system_info, [creation])
    ),
    Otp = testkit:start_node(otp, Port),
    ?assertEqual([host, otp], epmd_node:listed(Port)),
    epmd_node:assert_meet([Host, Otp]),
    ?assertMatch(
        {ok, [{"otp", _}, {"host", _}]},
        lists_in_order(testkit:call(Host, net_adm, names, ["127.0.0.1"]))
    ),
    ok = testkit:stop(Host),
    epmd_node:await_free(Port).

lists_in_order({ok, Names}) -> {ok, lists:reverse(lists:sort(Names))}.

a_host_does_not_start_where_the_port_is_taken(_Config) ->
    {_PortMapper, Port} = testkit:start_portmapper(),
    {Status, Output} = run_node(Port, epmd_node:arguments(host)),
    ?assertNotEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, integer_to_list(Port) ++ ": the port is in use")),
    ?assertEqual([], epmd_node:listed(Port)).

a_wrong_mode_is_named(_Config) ->
    Port = own_vm:free_port(),
    Arguments = ["-epmd_module", "portmapper_epmd", "-portmapper", "epmd_mode", "hots"],
    {Status, Output} = run_node(Port, Arguments),
    ?assertNotEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, "epmd_mode.*hots.*client, host or auto")).

the_mode_may_come_from_the_environment(_Config) ->
    Port = own_vm:free_port(),
    true = os:putenv("PORTMAPPER_EPMD_MODE", "host"),
    Node =
        try
            testkit:start_node(n, Port, ["-epmd_module", "portmapper_epmd"])
        after
            os:unsetenv("PORTMAPPER_EPMD_MODE")
        end,
    ?assert(testkit:call(Node, portmapper_server, serves, [])),
    ?assertEqual([n], epmd_node:listed(Port)).

a_host_that_does_not_listen_serves(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, host, Port, #{args => ["-dist_listen", "false"]}),
    ?assertEqual([], epmd_node:listed(Port)),
    Otp = testkit:start_node(otp, Port),
    ?assertEqual([otp], epmd_node:listed(Port)),
    ?assertEqual(pong, testkit:call(Host, net_adm, ping, ['otp@127.0.0.1'])),
    ok = testkit:stop(Otp).

distribution_starts_and_stops_and_renames_the_node(_Config) ->
    Port = own_vm:free_port(),
    VM = testkit:start_vm(#{
        args => ["-start_epmd", "false" | epmd_node:arguments(auto)],
        env => testkit:epmd_port(Port),
        logger_level => critical
    }),
    Start = fun(Name) ->
        Node = list_to_atom(atom_to_list(Name) ++ "@127.0.0.1"),
        {ok, _} = testkit:call(VM, net_kernel, start, [Node, #{name_domain => longnames}])
    end,
    Resources = [
        begin
            Start(Name),
            ?assertEqual([Name], epmd_node:listed(Port)),
            ?assertEqual({error, already_registered},
                testkit:call(VM, portmapper_epmd, register_node, [Name, 1, inet_tcp])),
            ok = testkit:call(VM, net_kernel, stop, []),
            ok = epmd_node:await_free(Port),
            testkit:resources(VM)
        end
     || Name <- [a, b, a, a, a]
    ],
    %% Each life leaves what the one before left.
    ?assertEqual(lists:nth(3, Resources), lists:last(Resources)).

the_application_in_a_host_shares_its_server(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, host, Port),
    Client = testkit:connect(Port),
    ok = gen_tcp:send(Client, framed(testkit:alive2("client"))),
    {ok, <<"v", 0, _/binary>>} = gen_tcp:recv(Client, 6, 5000),
    Both = [client, host],
    [
        begin
            ok = testkit:call(Host, application, start, [portmapper]),
            ?assertEqual(Both, epmd_node:listed(Port)),
            ok = testkit:call(Host, application, stop, [portmapper]),
            ?assertEqual(Both, epmd_node:listed(Port))
        end
     || _ <- [1, 2]
    ],
    %% The processes that log and reconfigure are there, whoever started them.
    ok = reconfigures(Host),
    ok = testkit:call(Host, application, start, [portmapper]),
    ok = reconfigures(Host),
    ok = testkit:call(Host, application, stop, [portmapper]),
    ok = reconfigures(Host),
    ?assertEqual({error, timeout}, gen_tcp:recv(Client, 1, 0)).

the_application_in_a_client_waits_for_its_turn(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, auto, Port),
    Client = epmd_node:start(client, auto, Port),
    ok = testkit:call(Client, application, start, [portmapper]),
    ?assertNot(testkit:call(Client, portmapper_server, serves, [])),
    ok = testkit:kill(Host),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [client] end),
    ok = reconfigures(Client),
    %% The application has it when the other one leaves, and the other way round.
    ok = testkit:call(Client, application, stop, [portmapper]),
    ?assertEqual([client], epmd_node:listed(Port)),
    ok = reconfigures(Client).

reconfigures(VM) ->
    testkit:wait_until(fun() -> testkit:call(VM, erlang, whereis, [portmapper_server]) =/= undefined end),
    testkit:call(VM, portmapper, reconfigure, [#{packet_timeout => 30}]).

distribution_in_a_vm_that_serves_shares_its_server(_Config) ->
    {VM, Port} = testkit:start_portmapper(#{
        args => ["-start_epmd", "false" | epmd_node:arguments(host)]
    }),
    %% The port of this VM's configuration is 0.
    ok = testkit:call(VM, application, set_env, [portmapper, port, Port]),
    {ok, _} = testkit:call(VM, net_kernel, start, ['n@127.0.0.1', #{name_domain => longnames}]),
    ?assertEqual([n], epmd_node:listed(Port)),
    ?assertMatch({ok, #{peer := vm}}, testkit:call(VM, portmapper, lookup, [n])),
    %% The application may end, and start again, and so may the distribution.
    ok = testkit:call(VM, portmapper, stop, []),
    ?assertEqual([n], epmd_node:listed(Port)),
    ok = testkit:call(VM, application, start, [portmapper]),
    ok = testkit:call(VM, net_kernel, stop, []),
    ?assertEqual([], testkit:names(Port)),
    ok = reconfigures(VM),
    ok = testkit:call(VM, portmapper, stop, []),
    epmd_node:await_free(Port).

%% A node that ends by itself, one hopes: its exit status, and what it prints.
run_node(Port, Arguments) ->
    Ebin = filename:dirname(code:which(portmapper)),
    Own = ["-noinput", "-name", "n@127.0.0.1", "-start_epmd", "false", "-pa", Ebin],
    Environment = program:environment([{"ERL_CRASH_DUMP_SECONDS", "0"} | testkit:epmd_port(Port)]),
    testkit:run(["timeout", "20", "erl" | Own ++ Arguments], [{env, Environment}]).

framed(Body) ->
    [<<(iolist_size(Body)):16>>, Body].
