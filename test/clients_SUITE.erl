%% The clients that others wrote use the port mapper: OTP's C `epmd', `erl_call',
%% jinterface, and C nodes.
-module(clients_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([
    epmd_names_lists_the_nodes/1,
    epmd_dump_lists_gone_nodes_too/1,
    epmd_started_tells_whether_one_answers/1,
    epmd_stop_forces_a_name_out/1,
    epmd_stop_is_refused_unless_checking_is_relaxed/1,
    epmd_kill_is_denied_while_nodes_are_registered/1,
    epmd_kill_ends_it/1,
    the_epmd_that_erl_starts_leaves_the_port_alone/1,
    erl_call_reaches_a_node_and_registers_nothing/1,
    jinterface_lists_and_looks_up/1,
    jinterface_publishes_a_node/1,
    a_c_node_is_published/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    [
        {epmd, [], [
            epmd_names_lists_the_nodes,
            epmd_dump_lists_gone_nodes_too,
            epmd_started_tells_whether_one_answers,
            epmd_stop_forces_a_name_out,
            epmd_stop_is_refused_unless_checking_is_relaxed,
            epmd_kill_is_denied_while_nodes_are_registered,
            epmd_kill_ends_it,
            the_epmd_that_erl_starts_leaves_the_port_alone
        ]},
        {erl_call, [], [erl_call_reaches_a_node_and_registers_nothing]},
        {jinterface, [], [jinterface_lists_and_looks_up, jinterface_publishes_a_node]},
        {ei, [], [a_c_node_is_published]}
    ].

init_per_group(Group, Config) ->
    case clients:missing(Group) of
        [] -> Config;
        Missing -> {skip, "needs " ++ lists:flatten(lists:join(", ", Missing))}
    end.

end_per_group(_Group, _Config) ->
    ok.

epmd_names_lists_the_nodes(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    UpAndRunning = io_lib:format("epmd: up and running on port ~b with data:\n", [Port]),
    ?assertEqual({0, iolist_to_binary(UpAndRunning)}, epmd(Port, ["-names"])),
    {ok, _, _} = testkit:register(Port, "old", 1001),
    {ok, _, _} = testkit:register(Port, <<"grün"/utf8>>, 1002),
    Lines = <<"name grün at port 1002\nname old at port 1001\n"/utf8>>,
    ?assertEqual({0, iolist_to_binary([UpAndRunning, Lines])}, epmd(Port, ["-names"])),
    %% As scripts call it.
    ?assertEqual(
        {0, iolist_to_binary([UpAndRunning, Lines])},
        testkit:run([clients:program("epmd"), "-names"], [{env, testkit:epmd_port(Port)}])
    ).

epmd_dump_lists_gone_nodes_too(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    {ok, _, _} = testkit:register(Port, "here", 1001),
    {ok, Gone, _} = testkit:register(Port, "gone", 1002),
    ok = gen_tcp:close(Gone),
    testkit:wait_until(fun() -> testkit:lookup(Port, "gone") =:= not_found end),
    {0, Output} = epmd(Port, ["-dump"]),
    Expected = [
        ["^epmd: up and running on port ", integer_to_list(Port), " with data:\n"],
        "active name     <here> at port 1001, fd = [0-9]+\n\\x00",
        "old/unused name <gone>, port = 1002, fd = [0-9]+ \n\\x00$"
    ],
    ?assertMatch({match, _}, re:run(Output, Expected)).

epmd_started_tells_whether_one_answers(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    ?assertEqual({0, <<>>}, epmd(Port, ["-started"])),
    ok = testkit:call(VM, portmapper, stop, []),
    ?assertEqual({1, <<>>}, epmd(Port, ["-started"])),
    ?assertEqual({1, <<"epmd: Cannot connect to local epmd\n">>}, epmd(Port, ["-names"])).

epmd_stop_forces_a_name_out(_Config) ->
    {_, Port} = testkit:start_portmapper(#{config => #{relaxed_command_check => true}}),
    {ok, Socket, _} = testkit:register(Port, "forced", 1001),
    ?assertEqual({0, <<"STOPPED\n">>}, epmd(Port, ["-stop", "forced"])),
    ?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, 5000)),
    ?assertEqual(not_found, testkit:lookup(Port, "forced")),
    ?assertEqual({0, <<"NOEXIST\n">>}, epmd(Port, ["-stop", "forced"])).

epmd_stop_is_refused_unless_checking_is_relaxed(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    {ok, _, _} = testkit:register(Port, "stays", 1001),
    Refused = {1, <<"epmd: local epmd responded with <>\n">>},
    ?assertEqual(Refused, epmd(Port, ["-stop", "stays"])),
    ?assertEqual({ok, 1001}, testkit:lookup(Port, "stays")).

epmd_kill_is_denied_while_nodes_are_registered(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    {ok, _, _} = testkit:register(Port, "stays", 1001),
    Denied = {1, <<"Killing not allowed - living nodes in database.\n">>},
    ?assertEqual(Denied, epmd(Port, ["-kill"])),
    ?assertEqual({ok, 1001}, testkit:lookup(Port, "stays")).

epmd_kill_ends_it(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    ?assertEqual({0, <<"Killed\n">>}, epmd(Port, ["-kill"])),
    ?assertEqual({1, <<"epmd: Cannot connect to local epmd\n">>}, epmd(Port, ["-kill"])),
    Started = fun() -> testkit:call(VM, application, which_applications, []) end,
    testkit:wait_until(fun() -> not lists:keymember(portmapper, 1, Started()) end).

the_epmd_that_erl_starts_leaves_the_port_alone(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    Say = "{ok, Names} = net_adm:names(), io:format(\"~p\", [[N || {N, _} <- Names]]), halt().",
    {Status, Output} = testkit:run(
        ["erl", "-name", "starts@127.0.0.1", "-noinput", "-eval", Say],
        [{env, testkit:epmd_port(Port)}]
    ),
    ?assertEqual({0, <<"[\"starts\"]">>}, {Status, Output}).

erl_call_reaches_a_node_and_registers_nothing(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Node = testkit:start_node(called, Port),
    Called = ["-c", "portmapper", "-name", "called@127.0.0.1"],
    ErlCall = fun(Arguments) ->
        testkit:run(
            [clients:program("erl_call") | Called ++ Arguments],
            [{env, testkit:epmd_port(Port)}]
        )
    end,
    ?assertEqual({0, <<"'called@127.0.0.1'">>}, ErlCall(["-a", "erlang node"])),
    Hidden = ErlCall(["-h", "caller", "-a", "erlang nodes [hidden]"]),
    ?assertMatch({0, <<"[caller@", _/binary>>}, Hidden),
    #{counters := Counters} = testkit:call(VM, portmapper, info, []),
    ?assertMatch(#{registered := 1, lookups_hit := 2, lookups_missed := 0}, Counters),
    #{peer := Peer} = Node,
    Monitor = monitor(process, Peer),
    ?assertEqual({0, <<>>}, ErlCall(["-q"])),
    receive
        {'DOWN', Monitor, process, Peer, _} -> ok
    end,
    testkit:wait_until(fun() -> testkit:names(Port) =:= [] end).

jinterface_lists_and_looks_up(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    {ok, _, _} = testkit:register(Port, "first", 1001),
    {ok, _, _} = testkit:register(Port, "second", 1002),
    Java = clients:start_java(Port),
    Names = <<"name second at port 1002, name first at port 1001">>,
    ?assertEqual(Names, clients:ask(Java, "names")),
    ?assertEqual(<<"1001">>, clients:ask(Java, "port first@127.0.0.1")),
    ?assertEqual(<<"0">>, clients:ask(Java, "port nobody@127.0.0.1")),
    ok = clients:stop(Java).

jinterface_publishes_a_node(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Node = testkit:start_node(erlang, Port),
    Java = clients:start_java(Port),
    Lookup = fun(Name) -> testkit:call(VM, portmapper, lookup, [Name]) end,
    Creation = binary_to_integer(clients:ask(Java, "open node@127.0.0.1")),
    ?assertMatch({ok, #{type := 110, creation := Creation}}, Lookup(node)),
    ?assertEqual(<<"true">>, clients:ask(Java, "ping erlang@127.0.0.1")),
    ?assertEqual(pong, testkit:call(Node, net_adm, ping, ['node@127.0.0.1'])),
    ?assertEqual(<<"ok">>, clients:ask(Java, "close")),
    testkit:wait_until(fun() -> Lookup(node) =:= {error, not_found} end),

    ?assertEqual(<<"true">>, clients:ask(Java, "publish self@127.0.0.1")),
    ?assertMatch({ok, #{type := 110}}, Lookup(self)),
    ?assertEqual(<<"ok">>, clients:ask(Java, "unpublish")),
    testkit:wait_until(fun() -> Lookup(self) =:= {error, not_found} end),
    ok = clients:stop(Java).

a_c_node_is_published(Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Directory = ?config(priv_dir, Config),
    {CNode, NodePort} = clients:start_c_node(host, Directory, "written_in_c", Port),
    Lookup = fun() -> testkit:call(VM, portmapper, lookup, [written_in_c]) end,
    ?assertMatch({ok, #{type := 104, port := NodePort}}, Lookup()),
    ok = clients:stop(CNode),
    testkit:wait_until(fun() -> Lookup() =:= {error, not_found} end).

%% OTP's C program: what it prints, and its exit status.
epmd(Port, Arguments) ->
    testkit:run([clients:program("epmd"), "-port", integer_to_list(Port) | Arguments]).
