%% Real `erl' nodes use the port mapper.
-module(nodes_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    a_mesh_of_20_nodes_loses_five_and_gets_them_back/1,
    a_second_holder_of_a_name_is_refused_and_the_first_stays/1,
    an_orderly_stop_unregisters_at_once/1,
    a_hidden_node_is_registered_like_any_other/1,
    a_node_registers_over_ipv6/1,
    a_dropped_node_registers_again_by_itself/1,
    a_node_outlives_a_stop_of_the_port_mapper/1
]).

%% Milliseconds until a node that died is gone from the listing, from the kill
%% on; from the end of its process where a busy machine took its time for that.
%% So busy a machine may be late with anything: then it is tried again.
-define(GONE_WITHIN, 100).
-define(ROUNDS, 5).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_mesh_of_20_nodes_loses_five_and_gets_them_back,
        a_second_holder_of_a_name_is_refused_and_the_first_stays,
        an_orderly_stop_unregisters_at_once,
        a_hidden_node_is_registered_like_any_other,
        a_node_registers_over_ipv6,
        a_dropped_node_registers_again_by_itself,
        a_node_outlives_a_stop_of_the_port_mapper
    ].

a_mesh_of_20_nodes_loses_five_and_gets_them_back(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Names = ["n" ++ integer_to_list(I) || I <- lists:seq(1, 20)],
    Nodes = testkit:start_nodes(Names, Port),
    assert_mesh(Names, Nodes),
    {Dying, Living} = lists:split(5, lists:zip(Names, Nodes)),
    five_die_and_come_back(VM, Port, Dying, Living, ?ROUNDS).

five_die_and_come_back(VM, Port, Dying, Living, Rounds) ->
    {DyingNames, _} = lists:unzip(Dying),
    {LivingNames, LivingNodes} = lists:unzip(Living),
    Creations = [creation(VM, Name) || Name <- DyingNames],
    Gone = [milliseconds_to_gone(Port, Node) || Node <- Dying],
    ct:pal("milliseconds from kill and from end to gone: ~w", [Gone]),
    ?assertEqual(lists:sort(LivingNames), registered(hd(LivingNodes))),

    Back = testkit:start_nodes(DyingNames, Port),
    assert_mesh(DyingNames ++ LivingNames, Back ++ LivingNodes),
    Next = [Creation + 1 || Creation <- Creations],
    ?assertEqual(Next, [creation(VM, Name) || Name <- DyingNames]),
    ?assertEqual(Next, [testkit:call(Node, erlang, system_info, [creation]) || Node <- Back]),
    InTime = lists:all(fun({_, FromEnd}) -> FromEnd =< ?GONE_WITHIN end, Gone),
    ?assert(InTime orelse Rounds > 1),
    InTime orelse
        five_die_and_come_back(VM, Port, lists:zip(DyingNames, Back), Living, Rounds - 1).

a_second_holder_of_a_name_is_refused_and_the_first_stays(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    [First, Other] = testkit:start_nodes([first, other], Port),
    {ok, Registration} = testkit:call(VM, portmapper, lookup, [first]),
    {Status, Output} = testkit:run(
        ["erl", "-name", "first@127.0.0.1", "-start_epmd", "false", "-noinput"],
        [{env, [{"ERL_CRASH_DUMP_SECONDS", "0"} | testkit:epmd_port(Port)]}]
    ),
    ?assertEqual(1, Status),
    ?assertMatch({_, _}, binary:match(Output, <<"seems to be in use by another Erlang node">>)),
    ?assertEqual({ok, Registration}, testkit:call(VM, portmapper, lookup, [first])),
    ?assertEqual(["first", "other"], registered(First)),
    ?assertEqual(pong, testkit:call(Other, net_adm, ping, ['first@127.0.0.1'])).

an_orderly_stop_unregisters_at_once(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    Node = testkit:start_node(leaves, Port),
    ?assertMatch({ok, _}, testkit:lookup(Port, "leaves")),
    ok = testkit:call(Node, init, stop, []),
    testkit:wait_until(fun() -> testkit:lookup(Port, "leaves") =:= not_found end).

a_hidden_node_is_registered_like_any_other(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Hidden = testkit:start_node(hidden, Port, ["-hidden"]),
    Seen = testkit:start_node(seen, Port),
    %% `erl' says so only to the nodes that it connects to.
    ?assertMatch({ok, #{type := 77}}, testkit:call(VM, portmapper, lookup, [hidden])),
    ?assertEqual(["hidden", "seen"], registered(Seen)),
    ?assertEqual(pong, testkit:call(Seen, net_adm, ping, ['hidden@127.0.0.1'])),
    ?assertEqual(['hidden@127.0.0.1'], testkit:call(Seen, erlang, nodes, [hidden])),
    ?assertEqual([], testkit:call(Hidden, erlang, nodes, [visible])).

a_node_registers_over_ipv6(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Loopback = {0, 0, 0, 0, 0, 0, 0, 1},
    #{addresses := Addresses} = testkit:call(VM, portmapper, info, []),
    case lists:member({Loopback, Port}, Addresses) of
        true ->
            Node = testkit:start_node(six, Port, ["-proto_dist", "inet6_tcp"]),
            {ok, #{peer := Peer}} = testkit:call(VM, portmapper, lookup, [six]),
            ?assertMatch({Loopback, _}, Peer),
            Names = testkit:call(Node, net_adm, names, [Loopback]),
            ?assertMatch({ok, [{"six", _}]}, Names);
        false ->
            {skip, "this host has no ::1"}
    end.

a_dropped_node_registers_again_by_itself(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    Node = testkit:start_node(dropped, Port),
    {ok, NodePort} = testkit:lookup(Port, "dropped"),
    Creation = creation(VM, "dropped"),
    ok = testkit:call(VM, portmapper, drop, [dropped]),
    ?assertEqual(not_found, testkit:lookup(Port, "dropped")),
    %% After two seconds.
    testkit:wait_until(fun() -> testkit:lookup(Port, "dropped") =:= {ok, NodePort} end),
    ?assertEqual(Creation + 1, creation(VM, "dropped")),
    ?assertEqual(["dropped"], registered(Node)).

a_node_outlives_a_stop_of_the_port_mapper(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    [A, _] = testkit:start_nodes([a, b], Port),
    ok = testkit:restart_portmapper(VM, Port),
    testkit:wait_until(fun() -> registered(A) =:= ["a", "b"] end),
    ?assertEqual(pong, testkit:call(A, net_adm, ping, ['b@127.0.0.1'])).

assert_mesh(Names, VMs) ->
    Sorted = lists:sort(Names),
    Nodes = [list_to_atom(Name ++ "@127.0.0.1") || Name <- Names],
    Pong = [pong || _ <- Nodes],
    [
        begin
            ?assertEqual(Sorted, registered(VM)),
            ?assertEqual(Pong, testkit:call(VM, lists, map, [fun net_adm:ping/1, Nodes]))
        end
     || VM <- VMs
    ],
    %% They have much to tell each other at first.
    [ok = testkit:call(VM, global, sync, []) || VM <- VMs],
    ok.

%% What a node sees.
registered(VM) ->
    {ok, Names} = testkit:call(VM, net_adm, names, ["127.0.0.1"]),
    lists:sort([Name || {Name, _} <- Names]).

creation(VM, Name) ->
    {ok, #{creation := Creation}} = testkit:call(VM, portmapper, lookup, [Name]),
    Creation.

milliseconds_to_gone(Port, {Name, #{peer := Peer} = VM}) ->
    Monitor = monitor(process, Peer),
    Kill = erlang:monotonic_time(millisecond),
    ok = testkit:kill(VM),
    End = poll_until_gone(Port, list_to_binary(Name), Monitor, infinity),
    Gone = erlang:monotonic_time(millisecond),
    {Gone - Kill, Gone - min(Gone, End)}.

%% When the process of the node ended, if it was not later than that.
poll_until_gone(Port, Name, Monitor, End) ->
    case lists:keymember(Name, 1, testkit:names(Port)) of
        false ->
            End;
        true when End =:= infinity ->
            poll_until_gone(Port, Name, Monitor, ended(Monitor));
        true ->
            poll_until_gone(Port, Name, Monitor, End)
    end.

ended(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, _} -> erlang:monotonic_time(millisecond)
    after 0 -> infinity
    end.
