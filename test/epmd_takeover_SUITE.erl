%% Nodes whose `-epmd_module' is ours, alone and among nodes of OTP, take the place of the port
%% mapper that leaves or dies, and find each other all the time.
-module(epmd_takeover_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_host_that_is_told_to_end_leaves_the_port_to_others/1,
    a_host_that_is_taken_over_from_becomes_a_client/1,
    nodes_of_ours_and_of_otp_meet_in_one_port_mapper_of_otp/1,
    a_host_that_stops_hands_everything_on/1,
    a_host_that_leaves_distribution_hands_everything_on/1,
    nodes_by_ipv6_take_the_port_over/1,
    nodes_by_tls_take_the_port_over/1,
    nodes_of_two_otps_take_the_port_over_from_each_other/1
]).

suite() ->
    %% The other OTP may have to be downloaded first.
    [{timetrap, {minutes, 5}}].

all() ->
    [
        a_host_that_is_told_to_end_leaves_the_port_to_others,
        a_host_that_is_taken_over_from_becomes_a_client,
        nodes_of_ours_and_of_otp_meet_in_one_port_mapper_of_otp,
        a_host_that_stops_hands_everything_on,
        a_host_that_leaves_distribution_hands_everything_on,
        nodes_by_ipv6_take_the_port_over,
        nodes_by_tls_take_the_port_over,
        nodes_of_two_otps_take_the_port_over_from_each_other
    ].

init_per_suite(Config) ->
    [{place, epmd_node:place()} | Config].

end_per_suite(Config) ->
    epmd_node:leave(?config(place, Config)).

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
    epmd_node:assert_meet([Host, Client]).

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
    epmd_node:assert_meet(maps:values(Nodes)),
    %% One of ours takes its place.
    ok = program:stop(First),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= All end),
    ?assertEqual(auto, epmd_node:host(maps:remove(otp, Nodes))),
    %% OTP's takes it in turn when ours has gone; ours is its client then.
    ok = testkit:stop(maps:get(auto, Nodes)),
    ok = epmd_node:await_free(Port),
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
    epmd_node:assert_meet([Otp | maps:values(Left)]).

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

nodes_of_two_otps_take_the_port_over_from_each_other(_Config) ->
    case other_otp:start_with([]) of
        {ok, Other} ->
            Options = fun
                (c) -> Other;
                (_) -> #{}
            end,
            take_over(Options);
        {unavailable, Reason} ->
            {skip, "no other OTP: " ++ Reason}
    end.

%% The host is killed, and so is the one that has taken its place.
take_over(Options) ->
    Port = own_vm:free_port(),
    Nodes = start_auto([a, b, c], Port, Options),
    epmd_node:assert_meet(maps:values(Nodes)),
    _ = kill_host(kill_host(Nodes, Port), Port),
    ok.

kill_host(Nodes, Port) ->
    Host = epmd_node:host(Nodes),
    ok = testkit:kill(maps:get(Host, Nodes)),
    Left = maps:remove(Host, Nodes),
    ok = testkit:wait_until(fun() -> epmd_node:listed(Port) =:= lists:sort(maps:keys(Left)) end),
    _ = epmd_node:host(Left),
    epmd_node:assert_meet(maps:values(Left)),
    Left.

start_auto(Names, Port, Options) ->
    maps:from_list([{Name, epmd_node:start(Name, auto, Port, Options(Name))} || Name <- Names]).
