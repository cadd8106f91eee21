%% Where the configuration comes from, and what a wrong one is told.
-module(config_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, end_per_testcase/2]).
-export([
    what_is_not_set_has_a_default/1,
    variables_of_epmd_configure/1,
    empty_variables_but_relaxed_count_as_unset/1,
    application_environment_beats_variables/1,
    port_0_lets_the_system_choose/1,
    addresses_take_every_form/1,
    addresses_take_ipv6/1,
    wrong_values_are_told_as_text/1,
    wrong_variables_are_told_as_text/1,
    reasons_of_application_are_readable/1,
    too_many_addresses_are_told/1,
    an_address_that_the_host_lacks_is_told/1,
    a_port_that_epmd_has_is_told_with_its_process/1,
    a_port_that_this_vm_has_is_told/1,
    an_error_leaves_nothing_behind/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

%% Starts with exactly this environment, and yields the configuration in force.
start(Variables, Config) ->
    ok = try_start(Variables, Config),
    portmapper:config().

try_start(Variables, Config) ->
    ok = own_vm:stop(),
    [true = os:putenv(Name, Value) || {Name, Value} <- Variables],
    own_vm:try_start(Config).

%% What is said of the reason not to start.
error_text(Variables, Config) ->
    {error, Reason} = try_start(Variables, Config),
    unicode:characters_to_list(portmapper:format_error(Reason)).

what_is_not_set_has_a_default(_Config) ->
    Port = own_vm:free_port(),
    Defaults = #{
        port => Port,
        addresses => all,
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
        takeover_socket => default,
        takeover => false,
        log_level => default,
        debug => 0
    },
    ?assertEqual(Defaults, start([], #{port => Port})),
    #{addresses := [{{0, 0, 0, 0}, Port} | _]} = portmapper:info(),
    ?assertEqual(not_found, testkit:lookup(Port, "n")).

variables_of_epmd_configure(_Config) ->
    Port = own_vm:free_port(),
    Variables = [
        {"ERL_EPMD_PORT", integer_to_list(Port)},
        {"ERL_EPMD_ADDRESS", " 127.0.0.2, 127.0.0.3,,127.0.0.4 "},
        {"ERL_EPMD_RELAXED_COMMAND_CHECK", "true"}
    ],
    Addresses = [{127, 0, 0, N} || N <- [2, 3, 4]],
    ?assertMatch(
        #{port := Port, addresses := Addresses, relaxed_command_check := true},
        start(Variables, #{})
    ),
    #{addresses := Bound} = portmapper:info(),
    Expected = [{Ip, Port} || Ip <- Addresses ++ [{127, 0, 0, 1}]],
    ?assertEqual(Expected, lists:sublist(Bound, 4)),
    ?assertMatch(#{port := Port}, start([{"ERL_EPMD_PORT", integer_to_list(Port) ++ " "}], #{})).

empty_variables_but_relaxed_count_as_unset(_Config) ->
    Variables = [{"ERL_EPMD_ADDRESS", " , "}, {"ERL_EPMD_RELAXED_COMMAND_CHECK", ""}],
    ?assertMatch(
        #{addresses := all, relaxed_command_check := true}, start(Variables, #{port => 0})
    ).

application_environment_beats_variables(_Config) ->
    Config = #{port => 0, addresses => ["127.0.0.5"], relaxed_command_check => false},
    Variables = [
        {"ERL_EPMD_PORT", "no port"},
        {"ERL_EPMD_ADDRESS", "no address"},
        {"ERL_EPMD_RELAXED_COMMAND_CHECK", "1"}
    ],
    ?assertMatch(
        #{port := 0, addresses := [{127, 0, 0, 5}], relaxed_command_check := false},
        start(Variables, Config)
    ).

port_0_lets_the_system_choose(_Config) ->
    ?assertMatch(#{port := 0}, start([], #{port => 0, addresses => ["127.0.0.1", "127.0.0.2"]})),
    #{addresses := [{{127, 0, 0, 1}, Port}, {{127, 0, 0, 2}, Port} | _]} = portmapper:info(),
    ?assert(Port > 0),
    ?assertEqual(not_found, testkit:lookup(Port, "n")),
    ?assertMatch(#{port := 0}, start([{"ERL_EPMD_PORT", "0"}], #{})).

addresses_take_every_form(_Config) ->
    Forms = ["127.0.0.2", <<"127.0.0.3">>, {127, 0, 0, 4}, [<<"127.0.">>, "0.5"]],
    Addresses = [{127, 0, 0, N} || N <- [2, 3, 4, 5]],
    ?assertMatch(#{addresses := Addresses}, start([], #{port => 0, addresses => Forms})).

addresses_take_ipv6(_Config) ->
    Loopback = {0, 0, 0, 0, 0, 0, 0, 1},
    case gen_tcp:listen(0, [inet6, {ip, Loopback}]) of
        {ok, Listener} ->
            ok = gen_tcp:close(Listener),
            [
                ?assertMatch(
                    #{addresses := [Loopback]}, start([], #{port => 0, addresses => [Form]})
                )
             || Form <- ["::1", <<"0:0:0:0:0:0:0:1">>, Loopback]
            ],
            ?assertMatch(#{addresses := [{Loopback, _}, {{127, 0, 0, 1}, _}]}, portmapper:info());
        {error, _} ->
            {skip, "this host has no IPv6"}
    end.

wrong_values_are_told_as_text(_Config) ->
    Port = ", expected an integer from 0 to 65535",
    Addresses = ", expected all, or a list of 1 to 16 IPv4 or IPv6 addresses",
    Exposure = ", expected all, lookup or local",
    Socket = ", expected default, none, or an absolute path of at most 90 bytes",
    Boolean = ", expected true or false",
    Timeout = ", expected a whole number of seconds from 1 to 86400",
    Limit = ", expected none, or an integer from 1 to 4294967295",
    Delay = ", expected a whole number of seconds from 0 to 86400",
    Level = ", expected default, or a level of logger from debug to emergency, all or none",
    Seventeen = ["127.0.1." ++ integer_to_list(N) || N <- lists:seq(1, 17)],
    Wrong = [
        {port, 65536, "65536" ++ Port},
        {port, "4369", "\"4369\"" ++ Port},
        {port, -1, "-1" ++ Port},
        {addresses, "127.0.0.1", "\"127.0.0.1\"" ++ Addresses},
        {addresses, [], "[]" ++ Addresses},
        {addresses, ["127.0.0.1", "localhost"], "[\"127.0.0.1\",\"localhost\"]" ++ Addresses},
        {addresses, [{1, 2, 3, 256}], "[{1,2,3,256}]" ++ Addresses},
        {addresses, ["::" | x], "[\"::\"|x]" ++ Addresses},
        {addresses, Seventeen, lists:flatten(io_lib:format("~0p", [Seventeen])) ++ Addresses},
        {exposure, none, "none" ++ Exposure},
        {exposure, "local", "\"local\"" ++ Exposure},
        {relaxed_command_check, yes, "yes" ++ Boolean},
        {relaxed_command_check, "true", "\"true\"" ++ Boolean},
        {evict_stale, never, "never" ++ Boolean},
        {packet_timeout, 0, "0" ++ Timeout},
        {packet_timeout, infinity, "infinity" ++ Timeout},
        {packet_timeout, 86401, "86401" ++ Timeout},
        {raise_file_limit, 1, "1" ++ Boolean},
        {process_name, "sixteen bytes ..", "\"sixteen bytes ..\", expected a text of at most 15 bytes"},
        {process_name, nobody, "nobody, expected a text of at most 15 bytes"},
        {trim_memory, 1, "1" ++ Boolean},
        {debug, 256, "256, expected an integer from 0 to 255"},
        {state_file, "state", "\"state\", expected default, none, or an absolute path"},
        {takeover_socket, "socket", "\"socket\"" ++ Socket},
        {takeover_socket, somewhere, "somewhere" ++ Socket},
        {takeover, 4369, "4369" ++ Boolean},
        {stored_descriptors, -1, "-1, expected an integer from 0 to 4294967295"},
        {systemd, nil, "nil" ++ Boolean},
        {delay_accept, -1, "-1" ++ Delay},
        {delay_write, 86401, "86401" ++ Delay},
        {watch_remote, yes, "yes, expected true or false"},
        {max_watchers, -1, "-1, expected an integer from 0 to 4294967295"},
        {subscriber_queue, 0, "0, expected an integer from 1 to 4294967295"},
        {local_reserve, -1, "-1, expected an integer from 0 to 4294967295"},
        {max_nodes, 0, "0" ++ Limit},
        {max_nodes, infinity, "infinity" ++ Limit},
        {remembered_names, -1, "-1, expected an integer from 0 to 4294967295"},
        {log_level, verbose, "verbose" ++ Level},
        {log_level, <<"info">>, "<<\"info\">>" ++ Level},
        {prot, 4369,
            "4369, expected one of port, addresses, exposure, watch_remote, max_watchers, "
            "subscriber_queue, relaxed_command_check, evict_stale, packet_timeout, local_reserve, "
            "max_nodes, max_nodes_per_process, delay_accept, delay_write, remembered_names, "
            "raise_file_limit, process_name, trim_memory, systemd, stored_descriptors, "
            "state_file, takeover_socket, takeover, log_level, debug"}
    ],
    [
        ?assertEqual(atom_to_list(Key) ++ " is " ++ Text, error_text([], Config#{Key => Value}))
     || Config <- [#{port => 0}], {Key, Value, Text} <- Wrong
    ],
    ok.

wrong_variables_are_told_as_text(_Config) ->
    Port = ", expected an integer from 0 to 65535",
    Addresses = ", expected all, or a list of 1 to 16 IPv4 or IPv6 addresses",
    Wrong = [
        {"ERL_EPMD_PORT", "abc", "\"abc\"" ++ Port},
        {"ERL_EPMD_PORT", "43x", "\"43x\"" ++ Port},
        {"ERL_EPMD_PORT", "70000", "70000" ++ Port},
        {"ERL_EPMD_PORT", "-1", "-1" ++ Port},
        {"ERL_EPMD_ADDRESS", "127.0.0.1,localhost", "[\"127.0.0.1\",\"localhost\"]" ++ Addresses}
    ],
    [
        ?assertEqual(Name ++ " is " ++ Text, error_text([{"ERL_EPMD_PORT", "0"}, {Name, Value}], #{}))
     || {Name, Value, Text} <- Wrong
    ],
    ok.

reasons_of_application_are_readable(_Config) ->
    ok = own_vm:stop(),
    ok = application:load(portmapper),
    ok = application:set_env(portmapper, port, -1),
    {error, Reason} = application:ensure_all_started(portmapper),
    Text = "port is -1, expected an integer from 0 to 65535",
    ?assertEqual(Text, lists:flatten(portmapper:format_error(Reason))).

too_many_addresses_are_told(_Config) ->
    Sixteen = [{127, 0, 1, N} || N <- lists:seq(1, 16)],
    ?assertEqual(
        "18 addresses, expected at most 16, loopback addresses included",
        error_text([], #{port => 0, addresses => Sixteen})
    ),
    Fourteen = lists:sublist(Sixteen, 14),
    ?assertMatch(#{addresses := Fourteen}, start([], #{port => 0, addresses => Fourteen})).

an_address_that_the_host_lacks_is_told(_Config) ->
    Port = own_vm:free_port(),
    Text = error_text([], #{port => Port, addresses => ["192.0.2.77"]}),
    Told = "cannot listen on 192.0.2.77:" ++ integer_to_list(Port) ++ ": ",
    ?assertEqual({Told, true}, {Told, lists:prefix(Told, Text)}),
    ?assert(length(Text) > length(Told)).

a_port_that_epmd_has_is_told_with_its_process(_Config) ->
    Port = own_vm:free_port(),
    Arguments = ["-port", integer_to_list(Port), "-address", "127.0.0.1"],
    Options = [{args, Arguments}, stderr_to_stdout],
    Epmd = open_port({spawn_executable, os:find_executable("epmd")}, Options),
    {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
    try
        ok = testkit:wait_until(fun() -> accepts(Port) end),
        ?assertEqual(
            in_use("127.0.0.1", Port, "epmd", Pid),
            error_text([], #{port => Port, addresses => ["127.0.0.1"]})
        )
    after
        {0, _} = testkit:run(["kill", integer_to_list(Pid)])
    end,
    ok = testkit:wait_until(fun() -> not accepts(Port) end),
    ?assertMatch(#{port := Port}, start([], #{port => Port, addresses => ["127.0.0.1"]})).

accepts(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
        {ok, Socket} -> gen_tcp:close(Socket) =:= ok;
        {error, _} -> false
    end.

in_use(Address, Port, Program, Pid) ->
    Other = integer_to_list(Port + 1),
    lists:concat([
        "cannot listen on ", Address, ":", Port, ": the port is in use by ", Program,
        " (pid ", Pid, "). Stop that process, or take another port: make run PORT=", Other,
        ", ERL_EPMD_PORT=", Other, " in the environment, or {port, ", Other,
        "} for the application portmapper"
    ]).

a_port_that_this_vm_has_is_told(_Config) ->
    Port = own_vm:free_port(),
    {ok, Listener} = gen_tcp:listen(Port, [{ip, {127, 0, 0, 2}}]),
    Config = #{port => Port, addresses => ["127.0.0.1", "127.0.0.2"]},
    ?assertEqual(in_use("127.0.0.2", Port, "beam.smp", os:getpid()), error_text([], Config)),
    %% The address for all collides with it as well.
    ?assertEqual(in_use("0.0.0.0", Port, "beam.smp", os:getpid()), error_text([], #{port => Port})),
    ok = gen_tcp:close(Listener),
    ?assertMatch(#{port := Port}, start([], Config)).

an_error_leaves_nothing_behind(_Config) ->
    Port = own_vm:free_port(),
    Wrong = #{port => Port, addresses => ["127.0.0.2", "192.0.2.77"]},
    {error, _} = try_start([], Wrong),
    ?assertNot(accepts(Port)),
    ?assertError({not_running, portmapper}, portmapper:count()),
    ?assertEqual(undefined, whereis(portmapper_server)),
    ?assertMatch(#{port := Port}, start([], Wrong#{addresses => ["127.0.0.2"]})).
