%% Every kind of client, of this host's OTP and of another one, lives with the port mapper
%% among nodes of both: it registers, is looked up and listed, connects and is
%% connected to, registers again where it does so, and is gone after its end.
-module(matrix_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    a_node_is_served/1,
    a_hidden_node_is_served/1,
    an_elixir_node_is_served/1,
    a_c_node_is_served/1,
    erl_call_is_served/1,
    a_jinterface_node_is_served/1
]).

-define(CLIENT, 'client@127.0.0.1').

suite() ->
    %% The other OTP may have to be downloaded first.
    [{timetrap, {minutes, 5}}].

all() ->
    [{group, host}, {group, other_otp}].

groups() ->
    Cases = [
        a_node_is_served,
        a_hidden_node_is_served,
        an_elixir_node_is_served,
        a_c_node_is_served,
        erl_call_is_served
    ],
    [
        {host, [parallel], Cases ++ [a_jinterface_node_is_served]},
        {other_otp, [parallel], Cases}
    ].

init_per_suite(Config) ->
    [{other_otp, other_otp:make()} | Config].

end_per_suite(_Config) ->
    ok.

%% The system of the client, and those of the nodes that it meets.
init_per_group(host, Config) ->
    Other = [System || {ok, System} <- [?config(other_otp, Config)]],
    [{system, host}, {systems, [host | Other]} | Config];
init_per_group(other_otp, Config) ->
    case ?config(other_otp, Config) of
        {ok, System} -> [{system, System}, {systems, [host, System]} | Config];
        {unavailable, Reason} -> {skip, "no other OTP: " ++ Reason}
    end.

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(Case, Config) ->
    %% The other system has them all.
    Kinds = [Kind || host <- [?config(system, Config)], Kind <- kind(Case)],
    case lists:flatmap(fun clients:missing/1, Kinds) of
        [] -> Config;
        Missing -> {skip, "needs " ++ lists:flatten(lists:join(", ", Missing))}
    end.

kind(an_elixir_node_is_served) -> [elixir];
kind(a_c_node_is_served) -> [ei];
kind(erl_call_is_served) -> [erl_call];
kind(a_jinterface_node_is_served) -> [jinterface];
kind(_) -> [].

end_per_testcase(_Case, _Config) ->
    ok.

a_node_is_served(Config) ->
    erl_is_served([], Config).

a_hidden_node_is_served(Config) ->
    erl_is_served(["-hidden"], Config).

erl_is_served(Arguments, Config) ->
    Surroundings = {_, Port, Nodes} = start_surroundings(Config),
    Client = start_node(?config(system, Config), client, Port, Arguments),
    NodePort = assert_registered(Surroundings, 77),
    [?assertEqual(pong, ping(Client, Node)) || {Node, _} <- Nodes],
    [?assertEqual(pong, ping(Node, ?CLIENT)) || {_, Node} <- Nodes],
    assert_registers_again(Surroundings, NodePort),
    ok = testkit:stop(Client),
    assert_gone(Surroundings).

an_elixir_node_is_served(Config) ->
    Surroundings = {_, Port, Nodes} = start_surroundings(Config),
    Elixir = clients:start_elixir(?config(system, Config), "client", Port),
    NodePort = assert_registered(Surroundings, 77),
    [?assertEqual(<<"true">>, ask_to_ping(Elixir, Node)) || {Node, _} <- Nodes],
    [?assertEqual(pong, ping(Node, ?CLIENT)) || {_, Node} <- Nodes],
    assert_registers_again(Surroundings, NodePort),
    ok = clients:stop(Elixir),
    assert_gone(Surroundings).

a_c_node_is_served(Config) ->
    Surroundings = {_, Port, Nodes} = start_surroundings(Config),
    Directory = ?config(priv_dir, Config),
    {CNode, NodePort} = clients:start_c_node(?config(system, Config), Directory, "client", Port),
    ?assertEqual(NodePort, assert_registered(Surroundings, 104)),
    [?assertEqual(<<"true">>, ask_to_ping(CNode, Node)) || {Node, _} <- Nodes],
    [assert_connects(Node, CNode) || {_, Node} <- Nodes],
    %% It does not register again.
    ok = clients:stop(CNode),
    assert_gone(Surroundings).

erl_call_is_served(Config) ->
    Surroundings = {VM, Port, Nodes} = start_surroundings(Config),
    Program = clients:command(?config(system, Config), "erl_call"),
    assert_erl_call_reaches(Nodes, Program, Port),
    ok = testkit:restart_portmapper(VM, Port),
    testkit:wait_until(fun() -> listed(Surroundings) =:= names(Nodes) end),
    assert_erl_call_reaches(Nodes, Program, Port),
    %% It registers nothing.
    ?assertEqual(names(Nodes), listed(Surroundings)).

a_jinterface_node_is_served(Config) ->
    Surroundings = {_, Port, Nodes} = start_surroundings(Config),
    Java = clients:start_java(Port),
    _ = clients:ask(Java, ["open ", atom_to_list(?CLIENT)]),
    _ = assert_registered(Surroundings, 110),
    [?assertEqual(<<"true">>, ask_to_ping(Java, Node)) || {Node, _} <- Nodes],
    [?assertEqual(pong, ping(Node, ?CLIENT)) || {_, Node} <- Nodes],
    %% It does not register again.
    ok = clients:stop(Java),
    assert_gone(Surroundings).

%% A port mapper, and a node of each OTP there is.
start_surroundings(Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Systems = lists:enumerate(?config(systems, Config)),
    Nodes = [
        {list_to_atom(Name ++ "@127.0.0.1"), start_node(System, Name, Port, [])}
     || {I, System} <- Systems, Name <- ["node" ++ integer_to_list(I)]
    ],
    %% The second is there for its OTP.
    Releases = [testkit:call(Node, erlang, system_info, [otp_release]) || {_, Node} <- Nodes],
    ?assertEqual(length(Nodes), length(lists:usort(Releases))),
    {VM, Port, Nodes}.

start_node(System, Name, Port, Arguments) ->
    Options =
        case System of
            host -> #{};
            {chroot, Root} -> #{exec => {os:find_executable("chroot"), [Root, "erl"]}}
        end,
    testkit:start_node(Name, Port, Options#{args => Arguments}).

%% By the API, by a look-up, and in the listing. The port of the client.
assert_registered({VM, Port, Nodes} = Surroundings, Type) ->
    {ok, #{type := Type, port := NodePort}} = testkit:call(VM, portmapper, lookup, [client]),
    ?assertEqual({ok, NodePort}, testkit:lookup(Port, "client")),
    ?assertEqual(["client" | names(Nodes)], listed(Surroundings)),
    NodePort.

assert_registers_again({VM, Port, Nodes} = Surroundings, NodePort) ->
    ok = testkit:restart_portmapper(VM, Port),
    testkit:wait_until(fun() -> listed(Surroundings) =:= ["client" | names(Nodes)] end),
    ?assertEqual({ok, NodePort}, testkit:lookup(Port, "client")).

assert_gone({_, Port, Nodes} = Surroundings) ->
    testkit:wait_until(fun() -> listed(Surroundings) =:= names(Nodes) end),
    ?assertEqual(not_found, testkit:lookup(Port, "client")).

%% A C node answers no ping, but accepts a connection when it is told to. The one
%% on which it called the node has to be gone there first.
assert_connects(Node, CNode) ->
    Connected = fun() -> testkit:call(Node, erlang, nodes, [connected]) end,
    testkit:wait_until(fun() -> not lists:member(?CLIENT, Connected()) end),
    Connect = fun() -> exit(testkit:call(Node, net_kernel, connect_node, [?CLIENT])) end,
    {_, Monitor} = spawn_monitor(Connect),
    ?assertEqual(<<"true">>, clients:ask(CNode, "accept")),
    receive
        {'DOWN', Monitor, process, _, Result} -> ?assertEqual(true, Result)
    end.

assert_erl_call_reaches(Nodes, Program, Port) ->
    [
        ?assertEqual(
            {0, iolist_to_binary(io_lib:format("~p", [Name]))},
            testkit:run(
                Program ++
                    ["-c", "portmapper", "-name", atom_to_list(Name), "-a", "erlang node"],
                [{env, testkit:epmd_port(Port)}]
            )
        )
     || {Name, _} <- Nodes
    ].

ping(Node, Name) ->
    testkit:call(Node, net_adm, ping, [Name]).

ask_to_ping(Client, Name) ->
    clients:ask(Client, ["ping ", atom_to_list(Name)]).

names(Nodes) ->
    [hd(string:lexemes(atom_to_list(Name), "@")) || {Name, _} <- Nodes].

listed({_, Port, _}) ->
    lists:sort([binary_to_list(Name) || {Name, _} <- testkit:names(Port)]).
