%% Nodes whose `-epmd_module' is ours, alone and among nodes of OTP: they serve, find each
%% other, and lose neither their name nor the port mapper for long.
-module(epmd_module_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_client_is_registered_again_as_soon_as_there_is_a_port_mapper/1,
    a_client_is_registered_again_when_its_name_is_forced_out/1,
    a_host_serves_and_is_registered_without_a_connection/1,
    a_host_does_not_start_where_the_port_is_taken/1,
    a_wrong_mode_is_named/1,
    the_mode_may_come_from_the_environment/1,
    a_host_that_does_not_listen_serves/1,
    distribution_starts_and_stops_and_renames_the_node/1,
    the_application_in_a_host_shares_its_server/1,
    the_application_in_a_client_waits_for_its_turn/1,
    distribution_in_a_vm_that_serves_shares_its_server/1,
    a_host_gets_its_name_back_when_it_is_forced_out/1,
    no_death_of_a_process_costs_a_node_its_registration/1,
    a_host_that_is_told_to_end_leaves_the_port_to_others/1,
    a_host_that_is_taken_over_from_becomes_a_client/1,
    nodes_of_ours_and_of_otp_meet_in_one_port_mapper_of_otp/1,
    a_host_that_stops_hands_everything_on/1,
    a_host_that_leaves_distribution_hands_everything_on/1,
    nodes_by_ipv6_take_the_port_over/1,
    nodes_by_tls_take_the_port_over/1,
    nodes_of_otp_25_and_27_take_the_port_over_from_each_other/1
]).

suite() ->
    %% OTP 27 may have to be downloaded first.
    [{timetrap, {minutes, 5}}].

all() ->
    Functions = [init_per_suite, end_per_suite, module_info],
    [Case || {Case, 1} <- ?MODULE:module_info(exports), not lists:member(Case, Functions)].

init_per_suite(Config) ->
    [{place, epmd_node:place()} | Config].

end_per_suite(Config) ->
    epmd_node:leave(?config(place, Config)).

a_client_is_registered_again_as_soon_as_there_is_a_port_mapper(_Config) ->
    {PortMapper, Port} = testkit:start_portmapper(),
    Node = epmd_node:start(n, client, Port),
    {ok, #{peer := {_, _}}} = testkit:call(PortMapper, portmapper, lookup, [n]),
    Times = [
        begin
            ok = testkit:restart_portmapper(PortMapper, Port),
            Begun = erlang:monotonic_time(millisecond),
            ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [n] end),
            erlang:monotonic_time(millisecond) - Begun
        end
     || _ <- lists:seq(1, 5)
    ],
    ct:pal("milliseconds until it is registered again: ~w", [Times]),
    %% OTP's own tries after 2,000.
    ?assert(lists:nth(3, lists:sort(Times)) =< 250),
    ok = testkit:stop(Node),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [] end).

a_client_is_registered_again_when_its_name_is_forced_out(_Config) ->
    {PortMapper, Port} = testkit:start_portmapper(),
    _ = epmd_node:start(n, client, Port),
    Before = epmd_node:creation(PortMapper, n),
    ok = testkit:call(PortMapper, portmapper, drop, [n]),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [n] end),
    ?assertEqual(Before + 1, epmd_node:creation(PortMapper, n)).

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
    assert_meet([Host, Otp]),
    ?assertMatch(
        {ok, [{"otp", _}, {"host", _}]},
        lists_in_order(testkit:call(Host, net_adm, names, ["127.0.0.1"]))
    ),
    ok = testkit:stop(Host),
    await_free(Port).

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
            ok = await_free(Port),
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
    await_free(Port).

a_host_gets_its_name_back_when_it_is_forced_out(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, host, Port),
    ok = testkit:call(Host, portmapper, drop, [host]),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [host] end).

no_death_of_a_process_costs_a_node_its_registration(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, auto, Port),
    Client = epmd_node:start(client, auto, Port),
    Both = [client, host],
    Kill = fun(VM, Name) ->
        Pid = testkit:call(VM, erlang, whereis, [Name]),
        true = testkit:call(VM, erlang, exit, [Pid, kill]),
        ok = testkit:wait_until(fun() ->
            New = testkit:call(VM, erlang, whereis, [Name]),
            New =/= Pid andalso New =/= undefined
        end),
        ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= Both end)
    end,
    Creation = epmd_node:creation(Host, host),
    [Kill(Host, Name) || Name <- [portmapper_server, portmapper_sup, portmapper_registration]],
    ok = Kill(Client, portmapper_registration),
    ?assertEqual(Creation, epmd_node:creation(Host, host)),
    %% It goes on with what it was.
    ok = testkit:kill(Host),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [client] end),
    ok = testkit:stop(Client).

a_host_that_is_told_to_end_leaves_the_port_to_others(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, auto, Port, #{args => ["-portmapper", "relaxed_command_check", "true"]}),
    <<"OK">> = testkit:request(Port, "k"),
    %% It is there for whoever wants it for a while.
    {ok, Other} = gen_tcp:listen(Port, [{reuseaddr, true}, {ip, {127, 0, 0, 1}}]),
    ok = gen_tcp:close(Other),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [host] end),
    ?assert(testkit:call(Host, portmapper_server, serves, [])).

a_host_that_is_taken_over_from_becomes_a_client(_Config) ->
    Port = own_vm:free_port(),
    Host = epmd_node:start(host, host, Port),
    Client = epmd_node:start(client, client, Port),
    Successor = testkit:start_vm(#{env => testkit:epmd_port(Port)}),
    ok = testkit:call(Successor, portmapper, takeover, []),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [client, host] end),
    ?assertMatch({ok, #{peer := {_, _}}}, testkit:call(Successor, portmapper, lookup, [host])),
    %% And the host again when that one has ended.
    ok = testkit:kill(Successor),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= [client, host] end),
    ?assert(testkit:call(Host, portmapper_server, serves, [])),
    assert_meet([Host, Client]).

nodes_of_ours_and_of_otp_meet_in_one_port_mapper_of_otp(_Config) ->
    case clients:program("epmd") of
        false -> {skip, "OTP's epmd is not here"};
        Epmd -> meet_in_epmd(Epmd)
    end.

meet_in_epmd(Epmd) ->
    Port = own_vm:free_port(),
    Start = fun() ->
        program:start([Epmd, "-port", integer_to_list(Port), "-address", "127.0.0.1"], [])
    end,
    First = Start(),
    ok = testkit:wait_until(fun() -> is_served(Port) end),
    Nodes = #{
        auto => epmd_node:start(auto, auto, Port),
        client => epmd_node:start(client, client, Port),
        otp => testkit:start_node(otp, Port)
    },
    All = lists:sort(maps:keys(Nodes)),
    ?assertEqual(All, epmd_node:listed(Port)),
    assert_meet(maps:values(Nodes)),
    %% One of ours takes its place.
    ok = program:stop(First),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= All end),
    ?assertEqual(auto, epmd_node:host(maps:remove(otp, Nodes))),
    %% OTP's takes it in turn when ours has gone; ours is its client then.
    ok = testkit:stop(maps:get(auto, Nodes)),
    ok = await_free(Port),
    Second = Start(),
    ok = testkit:wait_until(fun() -> is_served(Port) end),
    _ = epmd_node:start(auto, auto, Port),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= All end),
    program:stop(Second).

is_served(Port) ->
    try
        is_list(testkit:names(Port))
    catch
        error:_ -> false
    end.

a_host_that_stops_hands_everything_on(_Config) ->
    Port = own_vm:free_port(),
    Nodes = start_auto([a, b, c], Port, fun(_) -> #{} end),
    Otp = testkit:start_node(otp, Port),
    Creation = epmd_node:creation(maps:get(epmd_node:host(Nodes), Nodes), otp),
    Left = lists:foldl(
        fun(_, Living) ->
            Host = epmd_node:host(Living),
            Leaving = maps:get(Host, Living),
            Others = maps:remove(Host, Living),
            ok = stand_by(Leaving, Others),
            looking_up(otp, Port, fun() ->
                {0, _} = testkit:run(["kill", "-TERM", maps:get(os_pid, Leaving)]),
                Expected = lists:sort([otp | maps:keys(Others)]),
                ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= Expected end),
                Heir = maps:get(epmd_node:host(Others), Others),
                %% It has not registered again.
                ?assertEqual(Creation, epmd_node:creation(Heir, otp)),
                ?assertMatch(
                    {ok, #{peer := vm}},
                    testkit:call(Heir, portmapper, lookup, [epmd_node:host(Others)])
                )
            end),
            Others
        end,
        Nodes,
        [1, 2]
    ),
    ?assertEqual(1, maps:size(Left)),
    assert_meet([Otp | maps:values(Left)]).

%% Every look-up is answered meanwhile, as before.
looking_up(Name, Port, Fun) ->
    Answer = {ok, _} = testkit:lookup(Port, atom_to_list(Name)),
    Clients = [spawn_monitor(fun() -> look_up(Name, Port, Answer, 0) end) || _ <- [1, 2]],
    Fun(),
    [Pid ! stop || {Pid, _} <- Clients],
    Slowest = [
        receive
            {'DOWN', Monitor, process, Pid, {slowest, Microseconds}} -> Microseconds;
            {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
        end
     || {Pid, Monitor} <- Clients
    ],
    ct:pal("the slowest look-ups in microseconds: ~w", [Slowest]).

look_up(Name, Port, Answer, Slowest) ->
    {Microseconds, Given} = timer:tc(testkit, lookup, [Port, atom_to_list(Name)]),
    ?assertEqual(Answer, Given),
    receive
        stop -> exit({slowest, Slowest})
    after 0 -> look_up(Name, Port, Answer, max(Slowest, Microseconds))
    end.

stand_by(Host, Others) ->
    testkit:wait_until(fun() ->
        #{heirs := Heirs} = testkit:call(Host, portmapper, info, []),
        Heirs =:= maps:size(Others)
    end).

a_host_that_leaves_distribution_hands_everything_on(_Config) ->
    Port = own_vm:free_port(),
    VM = testkit:start_vm(#{
        args => ["-start_epmd", "false" | epmd_node:arguments(auto)],
        env => testkit:epmd_port(Port),
        logger_level => critical
    }),
    {ok, _} = testkit:call(VM, net_kernel, start, ['a@127.0.0.1', #{name_domain => longnames}]),
    Heir = epmd_node:start(b, auto, Port),
    ok = stand_by(VM, #{b => Heir}),
    {ok, Connection, Creation} = testkit:register(Port, "c", 1),
    ok = testkit:call(VM, net_kernel, stop, []),
    ?assertMatch([{<<"c">>, 1}, {<<"b">>, _}], testkit:names(Port)),
    ?assertEqual({error, timeout}, gen_tcp:recv(Connection, 1, 0)),
    ?assertEqual(Creation, epmd_node:creation(Heir, c)),
    %% It is its client when it comes back.
    {ok, _} = testkit:call(VM, net_kernel, start, ['a@127.0.0.1', #{name_domain => longnames}]),
    ?assertEqual([a, b, c], epmd_node:listed(Port)),
    ok = testkit:stop(Heir).

nodes_by_ipv6_take_the_port_over(_Config) ->
    case gen_tcp:listen(0, [inet6, {ip, {0, 0, 0, 0, 0, 0, 0, 1}}]) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            Options = fun(_) -> #{host => "::1", args => ["-proto_dist", "inet6_tcp"]} end,
            take_over(Options);
        {error, _} ->
            {skip, "this host has no IPv6"}
    end.

nodes_by_tls_take_the_port_over(Config) ->
    Directory = ?config(priv_dir, Config),
    Key = filename:join(Directory, "key.pem"),
    Certificate = filename:join(Directory, "certificate.pem"),
    Openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"],
    case os:find_executable("openssl") of
        false ->
            {skip, "needs openssl"};
        _ ->
            {0, _} = testkit:run(
                Openssl ++ ["-subj", "/CN=localhost", "-keyout", Key, "-out", Certificate]
            ),
            Options = [
                {Side, [{certfile, Certificate}, {keyfile, Key}, {verify, verify_none}]}
             || Side <- [server, client]
            ],
            File = filename:join(Directory, "tls.conf"),
            ok = file:write_file(File, io_lib:format("~p.~n", [Options])),
            Arguments = ["-proto_dist", "inet_tls", "-ssl_dist_optfile", File],
            take_over(fun(_) -> #{args => Arguments} end)
    end.

nodes_of_otp_25_and_27_take_the_port_over_from_each_other(_Config) ->
    case trixie:start_with([]) of
        {ok, Other} ->
            Options = fun
                (c) -> Other;
                (_) -> #{}
            end,
            take_over(Options);
        {unavailable, Reason} ->
            {skip, "no OTP 27: " ++ Reason}
    end.

%% The host is killed, and so is the one that has taken its place.
take_over(Options) ->
    Port = own_vm:free_port(),
    Nodes = start_auto([a, b, c], Port, Options),
    assert_meet(maps:values(Nodes)),
    _ = kill_host(kill_host(Nodes, Port), Port),
    ok.

kill_host(Nodes, Port) ->
    Host = epmd_node:host(Nodes),
    ok = testkit:kill(maps:get(Host, Nodes)),
    Left = maps:remove(Host, Nodes),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= lists:sort(maps:keys(Left)) end),
    _ = epmd_node:host(Left),
    assert_meet(maps:values(Left)),
    Left.

start_auto(Names, Port, Options) ->
    maps:from_list([{Name, epmd_node:start(Name, auto, Port, Options(Name))} || Name <- Names]).

await_free(Port) ->
    testkit:wait_until(fun() ->
        gen_tcp:connect({127, 0, 0, 1}, Port, []) =:= {error, econnrefused}
    end).

%% All connect to all, anew.
assert_meet(VMs) ->
    Nodes = [testkit:call(VM, erlang, node, []) || VM <- VMs],
    [testkit:call(VM, erlang, disconnect_node, [Node]) || VM <- VMs, Node <- Nodes],
    [
        ?assertEqual(pong, testkit:call(VM, net_adm, ping, [Node]))
     || VM <- VMs, Node <- Nodes
    ],
    ok.

%% A node that ends by itself, one hopes: its exit status, and what it prints.
run_node(Port, Arguments) ->
    Ebin = filename:dirname(code:which(portmapper)),
    Own = ["-noinput", "-name", "n@127.0.0.1", "-start_epmd", "false", "-pa", Ebin],
    Environment = program:environment([{"ERL_CRASH_DUMP_SECONDS", "0"} | testkit:epmd_port(Port)]),
    testkit:run(["timeout", "20", "erl" | Own ++ Arguments], [{env, Environment}]).

framed(Body) ->
    [<<(iolist_size(Body)):16>>, Body].
