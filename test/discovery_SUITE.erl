%% Nodes find each other, by whatever port mapper there is, and whatever that does.
-module(discovery_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, end_per_testcase/2]).
-export([
    nodes_of_the_host_are_connected_as_they_come/1,
    nodes_at_c_epmd_are_connected_as_they_come/1,
    a_node_of_another_cookie_is_told_once_and_tried_less_and_less/1,
    all_addresses_of_a_name_are_followed_as_they_change/1,
    nodes_of_another_host_are_connected_when_it_is_plugged_in/1,
    lying_port_mappers_cost_their_time_out_and_nothing_else/1,
    names_without_end_do_not_fill_the_vm/1,
    a_subscriber_that_does_not_keep_up_is_told_all_nodes/1,
    it_goes_on_when_its_process_ends/1,
    wrong_options_are_named/1
]).
%% Called in other VMs.
-export([start_without_dns/1, start_counting/1, attempts/0, connect/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        nodes_of_the_host_are_connected_as_they_come,
        nodes_at_c_epmd_are_connected_as_they_come,
        a_node_of_another_cookie_is_told_once_and_tried_less_and_less,
        all_addresses_of_a_name_are_followed_as_they_change,
        nodes_of_another_host_are_connected_when_it_is_plugged_in,
        lying_port_mappers_cost_their_time_out_and_nothing_else,
        names_without_end_do_not_fill_the_vm,
        a_subscriber_that_does_not_keep_up_is_told_all_nodes,
        it_goes_on_when_its_process_ends,
        wrong_options_are_named
    ].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

nodes_of_the_host_are_connected_as_they_come(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    One = testkit:start_node(n1, Port),
    _ = testkit:start_node(m1, Port),
    Seeker = start_seeker(Port, #{glob => "n*"}),
    ok = testkit:wait_until(fun() -> nodes_of(Seeker) =:= ['n1@127.0.0.1'] end),
    ok = told(Seeker, {watching, local}),
    Before = length(events(Seeker)),
    %% At once: it would be tried again after some 100 ms, or asked after 5 s.
    Two = testkit:start_node(n2, Port),
    ok = testkit:wait_until(fun() -> nodes_of(Seeker) =:= ['n1@127.0.0.1', 'n2@127.0.0.1'] end, 2000),
    ok = testkit:kill(One),
    ok = told(Seeker, {disconnected, 'n1@127.0.0.1'}),
    ok = testkit:wait_until(fun() -> testkit:lookup(Port, "n1") =:= not_found end),
    _ = testkit:start_node(n1, Port),
    ok = testkit:wait_until(fun() -> length(nodes_of(Seeker)) =:= 2 end, 2000),
    ?assertEqual(
        [{connected, 'n2@127.0.0.1'}, {disconnected, 'n1@127.0.0.1'}, {connected, 'n1@127.0.0.1'}],
        [Event || Event <- lists:nthtail(Before, events(Seeker)), is_change(Event)]
    ),
    ?assertEqual(false, testkit:call(Seeker, code, is_loaded, [portmapper_nif])),
    ok = testkit:call(Seeker, discoverer, stop, []),
    ?assertEqual(2, length(nodes_of(Seeker))),
    ok = testkit:stop(Two).

is_change({Kind, _Node}) -> Kind =:= connected orelse Kind =:= disconnected;
is_change(_Event) -> false.

nodes_at_c_epmd_are_connected_as_they_come(_Config) ->
    {Epmd, Port} = c_epmd:start(),
    One = testkit:start_node(n1, Port),
    Seeker = start_seeker(Port, #{glob => "n*", interval => 200}),
    ok = told(Seeker, {connected, 'n1@127.0.0.1'}),
    ok = told(Seeker, {polling, local}),
    _ = testkit:start_node(n2, Port),
    ok = told(Seeker, {connected, 'n2@127.0.0.1'}),
    ok = testkit:kill(One),
    ok = told(Seeker, {disconnected, 'n1@127.0.0.1'}),
    _ = testkit:start_node(n1, Port),
    ok = testkit:wait_until(fun() -> length(nodes_of(Seeker)) =:= 2 end),
    ok = c_epmd:stop(Epmd),
    ok = told(Seeker, {lost, local, econnrefused}),
    ?assertEqual(2, length(nodes_of(Seeker))).

a_node_of_another_cookie_is_told_once_and_tried_less_and_less(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    Other = testkit:start_node(n1, Port, ["-setcookie", "another"]),
    Seeker = start_node(Port),
    ok = testkit:call(Seeker, ?MODULE, start_counting, [options(#{glob => "n*"})]),
    ok = told(Seeker, {failed, 'n1@127.0.0.1', refused}),
    ok = testkit:wait_until(fun() -> attempts(Seeker) >= 3 end),
    timer:sleep(1000),
    %% After some 100, 200, 400, 800 ms.
    ?assert(attempts(Seeker) =< 7),
    ?assertEqual(1, length([told || {failed, _, _} <- events(Seeker)])),
    true = testkit:call(Other, erlang, set_cookie, [portmapper]),
    ok = told(Seeker, {connected, 'n1@127.0.0.1'}).

attempts(Seeker) ->
    testkit:call(Seeker, ?MODULE, attempts, []).

start_counting(Options) ->
    ok = persistent_term:put(?MODULE, counters:new(1, [])),
    discoverer:start(Options#{connect => fun ?MODULE:connect/1}).

connect(Node) ->
    ok = counters:add(persistent_term:get(?MODULE), 1, 1),
    net_kernel:connect_node(Node).

attempts() ->
    counters:get(persistent_term:get(?MODULE), 1).

all_addresses_of_a_name_are_followed_as_they_change(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    _ = testkit:start_node(n1, Port),
    Seeker = start_node(Port),
    Name = "cluster.invalid",
    ok = testkit:call(Seeker, ?MODULE, start_without_dns, [options(#{hosts => [{dns, Name}]})]),
    ok = told(Seeker, {unresolved, Name, nxdomain}),
    [ok = testkit:call(Seeker, inet_db, add_host, [{127, 0, 0, Last}, [Name]]) || Last <- [1, 2]],
    ok = told(Seeker, {connected, 'n1@127.0.0.1'}),
    ok = told(Seeker, {watching, {127, 0, 0, 1}}),
    ok = told(Seeker, {lost, {127, 0, 0, 2}, econnrefused}),
    ok = testkit:call(Seeker, inet_db, del_host, [{127, 0, 0, 2}]),
    ok = told(Seeker, {gone, {127, 0, 0, 2}}),
    %% Those of before hold.
    ok = testkit:call(Seeker, inet_db, del_host, [{127, 0, 0, 1}]),
    Unresolved = fun() -> length([told || {unresolved, _, _} <- events(Seeker)]) =:= 2 end,
    ok = testkit:wait_until(Unresolved),
    _ = testkit:start_node(n2, Port),
    ok = told(Seeker, {connected, 'n2@127.0.0.1'}).

%% Names are what inet_db has.
start_without_dns(Options) ->
    ok = inet_db:set_lookup([file]),
    discoverer:start(Options).

nodes_of_another_host_are_connected_when_it_is_plugged_in(_Config) ->
    linked_hosts:available() orelse
        throw({skip, "no network namespaces here (not root, or no unshare, nsenter and ip)"}),
    Port = 4400,
    {Near, Far} = linked_hosts:start_linked(Port),
    [ok = testkit:call(Host, application, set_env, [[{portmapper, Config}]])
     || {Host, Config} <- [{Near, [{port, Port}, {watch_remote, true}]}, {Far, [{port, Port}]}]],
    [ok = testkit:call(Host, application, start, [portmapper]) || Host <- [Near, Far]],
    _ = linked_hosts:start_node(n1, "10.99.0.1", Near, Port),
    _ = linked_hosts:start_node(n3, "10.99.0.2", Far, Port),
    Seeker = linked_hosts:start_node(n4, "10.99.0.2", Far, Port),
    ok = linked_hosts:sh(Near, "ip link set near down"),
    Options = #{glob => "n*", hosts => [local, "10.99.0.1"], timeout => 500, interval => 200},
    ok = testkit:call(Seeker, discoverer, start, [Options]),
    ok = told(Seeker, {connected, 'n3@10.99.0.2'}),
    ok = testkit:wait_until(fun() ->
        [lost || {lost, "10.99.0.1", _} <- events(Seeker)] =:= [lost]
    end),
    ok = linked_hosts:sh(Near, "ip link set near up"),
    ok = told(Seeker, {connected, 'n1@10.99.0.1'}),
    ok = told(Seeker, {watching, "10.99.0.1"}),
    _ = linked_hosts:start_node(n2, "10.99.0.1", Near, Port),
    ok = told(Seeker, {connected, 'n2@10.99.0.1'}),
    ?assertEqual(['n1@10.99.0.1', 'n2@10.99.0.1', 'n3@10.99.0.2'], nodes_of(Seeker)).

lying_port_mappers_cost_their_time_out_and_nothing_else(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    _ = testkit:start_node(n1, Port),
    Line = <<"name n at port 1\n">>,
    Lies = [
        {"127.0.0.2", timeout, fun(_Socket) -> timer:sleep(infinity) end},
        {"127.0.0.3", bad_reply, fun(Socket) -> gen_tcp:send(Socket, "HTTP/1.1 400\r\n\r\n") end},
        {"127.0.0.4", too_long, fun(Socket) -> liar:endlessly(Socket, binary:copy(Line, 4000)) end},
        {"127.0.0.5", unanswered, fun(_Socket) -> ok end},
        {"127.0.0.6", timeout, fun(Socket) -> liar:slowly(Socket, binary:copy(Line, 1000)) end}
    ],
    Liars = [
        begin
            {ok, Address} = inet:parse_address(Host),
            liar:start(Address, Port, Lie)
        end
     || {Host, _, Lie} <- Lies
    ],
    Hosts = [Host || {Host, _, _} <- Lies] ++ [local],
    Seeker = start_seeker(Port, #{glob => "n*", hosts => Hosts, timeout => 2000}),
    ok = told(Seeker, {connected, 'n1@127.0.0.1'}),
    [
        ok = testkit:wait_until(fun() ->
            Reasons = [Reason || {lost, Of, Reason} <- events(Seeker), Of =:= Host],
            %% So much may not have come in time.
            Reasons =:= [Expected] orelse Expected =:= too_long andalso Reasons =:= [timeout]
        end)
     || {Host, Expected, _} <- Lies
    ],
    _ = testkit:start_node(n2, Port),
    ok = testkit:wait_until(fun() -> length(nodes_of(Seeker)) =:= 2 end, 2000),
    [ok = liar:stop(Liar) || {Liar, _} <- Liars].

%% Whoever lists them answers nothing when it is asked for one of them, which takes the
%% node's own client its time.
names_without_end_do_not_fill_the_vm(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    _ = testkit:start_node(n1, Port),
    Many = [["name n", integer_to_list(N), " at port 1\n"] || N <- lists:seq(1, 50_000)],
    {Liar, Port} = liar:start({127, 0, 0, 2}, Port, fun(Socket) ->
        gen_tcp:send(Socket, [<<Port:32>>, Many])
    end),
    Hosts = ["127.0.0.2", local],
    Seeker = start_seeker(Port, #{glob => "n*", hosts => Hosts, max_names => 100}),
    Atoms = testkit:call(Seeker, erlang, system_info, [atom_count]),
    ok = told(Seeker, {connected, 'n1@127.0.0.1'}),
    Ignored = fun() -> [Name || {ignored, "127.0.0.2", Name} <- events(Seeker)] end,
    ok = testkit:wait_until(fun() -> Ignored() =:= [<<"n101">>] end),
    ?assert(testkit:call(Seeker, erlang, system_info, [atom_count]) - Atoms < 1000),
    {Time, _} = timer:tc(testkit, call, [Seeker, net_kernel, get_net_ticktime, []]),
    ?assert(Time < 1_000_000),
    ok = liar:stop(Liar).

a_subscriber_that_does_not_keep_up_is_told_all_nodes(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    One = testkit:start_node(n1, Port),
    Seeker = start_seeker(Port, #{glob => "n*"}),
    ok = told(Seeker, {connected, 'n1@127.0.0.1'}),
    ok = testkit:call(Seeker, discoverer, stall, []),
    _ = testkit:start_node(n2, Port),
    ok = testkit:wait_until(fun() -> length(nodes_of(Seeker)) =:= 2 end),
    ok = testkit:stop(One),
    ok = testkit:wait_until(fun() -> length(nodes_of(Seeker)) =:= 1 end),
    ok = testkit:call(Seeker, discoverer, go_on, []),
    ok = told(Seeker, {watching, local}),
    ?assertEqual([{nodes, ['n2@127.0.0.1']}, {watching, local}], events(Seeker)).

it_goes_on_when_its_process_ends(_Config) ->
    {_, Port} = testkit:start_portmapper(),
    Seeker = start_seeker(Port, #{glob => "n*"}),
    ok = told(Seeker, {watching, local}),
    Pid = testkit:call(Seeker, erlang, whereis, [portmapper_discovery]),
    true = testkit:call(Seeker, erlang, exit, [Pid, kill]),
    _ = testkit:start_node(n1, Port),
    ok = testkit:wait_until(fun() -> nodes_of(Seeker) =:= ['n1@127.0.0.1'] end),
    %% That of the first one has ended with it: node, watch, and the other node.
    ok = testkit:wait_until(fun() -> length(watchers(Seeker)) =:= 1 end).

watchers(Seeker) ->
    [
        Pid
     || Pid <- testkit:call(Seeker, erlang, processes, []),
        testkit:call(Seeker, proc_lib, initial_call, [Pid]) =:= {portmapper_watch, init, ['Argument__1']}
    ].

wrong_options_are_named(_Config) ->
    ?assertEqual({error, not_distributed}, portmapper_discovery:start_link(#{})),
    [
        ?assertMatch(
            {error, {bad_option, #{key := Key}}}, portmapper_discovery:start_link(#{Key => Value})
        )
     || {Key, Value} <- [
            {name, "discovery"},
            {glob, ""},
            {hosts, "db.example"},
            {hosts, local},
            {port, 0},
            {interval, infinity},
            {timeout, 0},
            {max_names, 0},
            {node_host, fun() -> "h" end},
            {connect, {net_kernel, connect_node, []}},
            {host, "db.example"}
        ]
    ],
    ?assertMatch(
        {error, {bad_option, #{key := host, value := ""}}},
        portmapper_discovery:start_link(#{hosts => [local, {dns, ""}]})
    ).

%% A node that looks for others.
start_seeker(Port, Options) ->
    Seeker = start_node(Port),
    ok = testkit:call(Seeker, discoverer, start, [options(Options)]),
    Seeker.

options(Options) ->
    maps:merge(#{timeout => 5000, interval => 200}, Options).

start_node(Port) ->
    testkit:start_node(seeker, Port, #{modules => [portmapper, ?MODULE]}).

nodes_of(Seeker) ->
    lists:sort(testkit:call(Seeker, erlang, nodes, [])).

events(Seeker) ->
    testkit:call(Seeker, discoverer, told, []).

%% Nodes that are connected when it begins to listen are told at once.
told(Seeker, {connected, Node} = Event) ->
    testkit:wait_until(fun() ->
        [{nodes, Nodes} | Events] = events(Seeker),
        lists:member(Node, Nodes) orelse lists:member(Event, Events)
    end);
told(Seeker, Event) ->
    testkit:wait_until(fun() -> lists:member(Event, events(Seeker)) end).
