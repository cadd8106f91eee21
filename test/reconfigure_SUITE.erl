%% What changes while the port mapper runs.
-module(reconfigure_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    config_is_what_is_in_force/1,
    relaxed_checking_changes_live/1,
    packet_timeout_changes_live/1,
    addresses_change_and_nodes_stay/1,
    addresses_change_under_load_without_a_failed_lookup/1,
    port_changes_and_nodes_stay/1,
    a_port_that_the_system_chose_stays/1,
    raise_file_limit_needs_a_restart/1,
    wrong_values_are_named_and_change_nothing/1,
    an_address_that_the_host_lacks_changes_nothing/1,
    a_taken_port_changes_nothing/1,
    works_after_a_crash/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

init_per_testcase(_Case, Config) ->
    [{port, own_vm:start(#{port => own_vm:free_port()})} | Config].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

port(Config) ->
    proplists:get_value(port, Config).

config_is_what_is_in_force(Config) ->
    InForce = #{
        port => port(Config),
        addresses => [{127, 0, 0, 1}],
        exposure => all,
        watch_remote => false,
        max_watchers => 100,
        subscriber_queue => 10000,
        relaxed_command_check => false,
        evict_stale => true,
        packet_timeout => 60,
        local_reserve => 64,
        max_nodes => none,
        max_nodes_per_process => none,
        delay_accept => 0,
        delay_write => 0,
        remembered_names => 1000,
        raise_file_limit => false,
        process_name => <<>>,
        trim_memory => false,
        systemd => false,
        stored_descriptors => 0,
        state_file => none,
        takeover_socket => none,
        takeover => false,
        log_level => default,
        debug => 0
    },
    ?assertEqual(InForce, portmapper:config()),
    ?assertEqual(ok, portmapper:reconfigure(#{})),
    ?assertEqual(ok, portmapper:reconfigure(InForce)),
    ?assertEqual(InForce, portmapper:config()),
    Changes = #{
        addresses => [<<"127.0.0.2">>, "127.0.0.3", {127, 0, 0, 4}],
        exposure => lookup,
        relaxed_command_check => true,
        evict_stale => false,
        packet_timeout => 86400,
        local_reserve => 0,
        max_nodes => 4294967295,
        max_nodes_per_process => 1,
        log_level => none
    },
    ?assertEqual(ok, portmapper:reconfigure(Changes)),
    Addresses = [{127, 0, 0, N} || N <- [2, 3, 4]],
    Changed = maps:merge(InForce, Changes#{addresses => Addresses}),
    ?assertEqual(Changed, portmapper:config()),
    ?assertEqual(ok, portmapper:reconfigure(#{addresses => all})),
    ?assertEqual(Changed#{addresses => all}, portmapper:config()).

relaxed_checking_changes_live(Config) ->
    {ok, Node, _} = testkit:register(port(Config), "n", 1),
    ?assertEqual(<<>>, testkit:request(port(Config), "sn")),
    ok = portmapper:reconfigure(#{relaxed_command_check => true}),
    ?assertEqual(<<"STOPPED">>, testkit:request(port(Config), "sn")),
    ?assertEqual({error, closed}, gen_tcp:recv(Node, 0, 10_000)),
    ok = portmapper:reconfigure(#{relaxed_command_check => false}),
    ?assertEqual(<<>>, testkit:request(port(Config), "sn")).

packet_timeout_changes_live(Config) ->
    Before = testkit:connect(port(Config)),
    ok = testkit:wait_until(fun() -> maps:get(open_connections, portmapper:info()) =:= 1 end),
    ok = portmapper:reconfigure(#{packet_timeout => 1}),
    {Microseconds, {error, closed}} =
        timer:tc(fun() -> gen_tcp:recv(testkit:connect(port(Config)), 0, 10_000) end),
    ?assert(Microseconds >= 900_000),
    %% It began to wait under the old value.
    ?assertEqual({error, timeout}, gen_tcp:recv(Before, 0, 0)).

addresses_change_and_nodes_stay(Config) ->
    Port = port(Config),
    {ok, Node, Creation} = testkit:register(Port, "n", 1),
    Steps = [
        {["127.0.0.2"], [1, 2], [3]},
        {["127.0.0.3"], [1, 3], [2]},
        {all, [1, 2, 3], []},
        {["127.0.0.2", "127.0.0.3"], [1, 2, 3], [4]},
        {["0.0.0.0"], [1, 2, 3, 4], []},
        {["127.0.0.1"], [1], [2, 3]}
    ],
    [
        begin
            ?assertEqual(ok, portmapper:reconfigure(#{addresses => Addresses})),
            [?assertMatch({Addresses, Nth, {ok, _}}, {Addresses, Nth, connect(Nth, Port)}) || Nth <- Open],
            [?assertEqual({Nth, {error, econnrefused}}, {Nth, connect(Nth, Port)}) || Nth <- Closed]
        end
     || {Addresses, Open, Closed} <- Steps
    ],
    ?assertMatch({ok, #{creation := Creation}}, portmapper:lookup("n")),
    ?assertEqual({error, timeout}, gen_tcp:recv(Node, 0, 0)).

connect(Nth, Port) ->
    case gen_tcp:connect({127, 0, 0, Nth}, Port, []) of
        {ok, Socket} -> {ok, gen_tcp:close(Socket)};
        Error -> Error
    end.

addresses_change_under_load_without_a_failed_lookup(Config) ->
    {ok, Node, _} = testkit:register(port(Config), "n", 4711),
    Load = [spawn_monitor(fun() -> look_up(port(Config)) end) || _ <- [1, 2, 3]],
    Rounds = [["127.0.0.2"], all, ["127.0.0.1"], ["0.0.0.0"], ["127.0.0.3", "127.0.0.1"]],
    [ok = portmapper:reconfigure(#{addresses => Each}) || _ <- "123", Each <- Rounds],
    [Pid ! stop || {Pid, _} <- Load],
    [
        receive
            {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason)
        end
     || {_, Monitor} <- Load
    ],
    ?assertEqual({error, timeout}, gen_tcp:recv(Node, 0, 0)).

%% Until it is told to stop.
look_up(Port) ->
    {ok, 4711} = testkit:lookup(Port, "n"),
    receive
        stop -> ok
    after 0 -> look_up(Port)
    end.

port_changes_and_nodes_stay(Config) ->
    {Old, New} = {port(Config), own_vm:free_port()},
    {ok, Node, _} = testkit:register(Old, "n", 4711),
    ?assertEqual(ok, portmapper:reconfigure(#{port => New})),
    ?assertEqual({error, econnrefused}, connect(1, Old)),
    ?assertEqual({ok, 4711}, testkit:lookup(New, "n")),
    ?assertMatch(<<New:32, _/binary>>, testkit:request(New, "n")),
    ?assertEqual(New, own_vm:port()),
    ?assertMatch(#{port := New}, portmapper:config()),
    ok = gen_tcp:close(Node),
    testkit:wait_until(fun() -> portmapper:count() =:= 0 end).

a_port_that_the_system_chose_stays(_Config) ->
    Port = own_vm:start(#{port => 0}),
    ok = portmapper:reconfigure(#{addresses => ["127.0.0.2"]}),
    ?assertEqual({ok, ok}, connect(1, Port)),
    ?assertEqual({ok, ok}, connect(2, Port)),
    ?assertMatch(#{port := 0}, portmapper:config()).

raise_file_limit_needs_a_restart(_Config) ->
    Error = {needs_restart, #{key => raise_file_limit}},
    ?assertEqual({error, Error}, portmapper:reconfigure(#{raise_file_limit => true})),
    ?assertEqual(ok, portmapper:reconfigure(#{raise_file_limit => false})),
    Text = unicode:characters_to_list(portmapper:format_error(Error)),
    ?assertEqual("raise_file_limit takes effect at the start only", Text).

wrong_values_are_named_and_change_nothing(_Config) ->
    Before = portmapper:config(),
    Wrong = [
        {port, [-1, 65536, 1 bsl 100, "4369", 4369.0, undefined, [1 | 2], self()]},
        {addresses, ["127.0.0.1", [], ["localhost"], ["127.0.0.1", {1, 2, 3}], [all], none]},
        {addresses, [["::" | x], [[x | y]], [#{}], {127, 0, 0, 1}]},
        {exposure, [none, "local", <<"local">>, true, 1, [local]]},
        {relaxed_command_check, [1, "true", undefined]},
        {evict_stale, [1, "false", undefined]},
        {packet_timeout, [0, 86401, -1, 1 bsl 70, 1.5, infinity]},
        {raise_file_limit, [1, nil]},
        {log_level, [verbose, "info", <<"info">>, 6]},
        {prot, [4369]},
        {"port", [4369]}
    ],
    %% A right key beside the wrong one takes no effect either.
    [
        ?assertMatch(
            {error, {bad_config, #{key := Key, value := Value, expected := <<_, _/binary>>}}},
            portmapper:reconfigure(maps:merge(#{packet_timeout => 5}, #{Key => Value}))
        )
     || {Key, Values} <- Wrong, Value <- Values
    ],
    ?assertEqual(Before, portmapper:config()).

an_address_that_the_host_lacks_changes_nothing(Config) ->
    Before = portmapper:config(),
    Changes = #{addresses => ["127.0.0.2", "192.0.2.77"], packet_timeout => 5},
    {error, Error} = portmapper:reconfigure(Changes),
    Port = port(Config),
    ?assertMatch({cannot_bind, #{address := {192, 0, 2, 77}, port := Port}}, Error),
    ?assertEqual(Before, portmapper:config()),
    ?assertEqual({error, econnrefused}, connect(2, Port)),
    ?assertEqual({ok, ok}, connect(1, Port)).

a_taken_port_changes_nothing(Config) ->
    Before = portmapper:config(),
    {Ip, Taken} = {{127, 0, 0, 1}, own_vm:free_port()},
    {ok, Listener} = gen_tcp:listen(Taken, [{ip, Ip}]),
    Pid = list_to_integer(os:getpid()),
    ?assertMatch(
        {error, {address_in_use, #{address := Ip, port := Taken, holder := #{pid := Pid}}}},
        portmapper:reconfigure(#{port => Taken, relaxed_command_check => true})
    ),
    ok = gen_tcp:close(Listener),
    ?assertEqual(Before, portmapper:config()),
    ?assertEqual(not_found, testkit:lookup(port(Config), "n")).

works_after_a_crash(_Config) ->
    ok = portmapper:reconfigure(#{packet_timeout => 5}),
    Pid = whereis(portmapper_server),
    exit(Pid, kill),
    ok = testkit:wait_until(fun() ->
        not lists:member(whereis(portmapper_server), [undefined, Pid])
    end),
    ?assertMatch(#{packet_timeout := 5}, portmapper:config()),
    ?assertEqual(ok, portmapper:reconfigure(#{relaxed_command_check => true})),
    ?assertMatch(#{packet_timeout := 5, relaxed_command_check := true}, portmapper:config()).
