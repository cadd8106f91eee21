%% What peers on other hosts get to know, as the application is configured. Each
%% host is a network namespace, which ends with the VMs in it.
-module(exposure_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    by_default_remote_peers_may_look_up_and_list/1,
    lookup_lets_remote_nodes_connect_but_not_list/1,
    local_closes_the_port_to_remote_nodes/1,
    local_refuses_remote_peers_on_listed_addresses_and_logs_them/1,
    exposure_changes_live_and_nodes_stay/1,
    a_host_with_ipv4_alone_is_served/1,
    a_host_with_ipv6_alone_is_served/1
]).
%% Called in other VMs.
-export([ask/2]).

%% In a host of our own every port is free.
-define(PORT, 4400).
-define(NEAR, {10, 99, 0, 1}).
-define(NEAR6, {16#fd99, 0, 0, 0, 0, 0, 0, 1}).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), is_case(Case)].

is_case(Function) ->
    not lists:member(Function, [module_info, init_per_suite, end_per_suite]).

init_per_suite(Config) ->
    case linked_hosts:available() of
        true -> Config;
        false -> {skip, "no network namespaces here (not root, or no unshare, nsenter and ip)"}
    end.

end_per_suite(_Config) ->
    ok.

by_default_remote_peers_may_look_up_and_list(_Config) ->
    {Host, Remote} = linked_hosts:start_linked(?PORT),
    ok = start(Host, #{}),
    ?assertMatch(#{exposure := all}, testkit:call(Host, portmapper, info, [])),
    Node = linked_hosts:start_node(n, "10.99.0.1", Host, ?PORT),
    {ok, #{port := Port}} = testkit:call(Host, portmapper, lookup, [n]),
    ?assertEqual({ok, [{"n", Port}]}, names(Remote)),
    ?assertEqual({port, Port, 6}, port_please(Remote, "n")),
    ?assertEqual(noport, port_please(Remote, "m")),
    [?assertEqual(<<>>, remote_ask(Remote, Body)) || Body <- for_local_peers()],
    ?assertEqual(length(for_local_peers()), not_local(Host)),
    ?assertEqual(1, testkit:call(Host, portmapper, count, [])),
    ok = testkit:stop(Node).

lookup_lets_remote_nodes_connect_but_not_list(_Config) ->
    {Host, Remote} = linked_hosts:start_linked(?PORT),
    ok = start(Host, #{exposure => lookup}),
    %% Every host has a port mapper of its own.
    ok = start(Remote, #{}),
    ?assertMatch(#{exposure := lookup}, testkit:call(Host, portmapper, info, [])),
    Node = linked_hosts:start_node(n, "10.99.0.1", Host, ?PORT),
    Other = linked_hosts:start_node(m, "10.99.0.2", Remote, ?PORT),
    ?assertEqual(pong, testkit:call(Other, net_adm, ping, ['n@10.99.0.1'])),
    ?assertEqual(['m@10.99.0.2'], testkit:call(Node, erlang, nodes, [])),
    ?assertEqual(<<>>, remote_ask(Remote, "n")),
    ?assertNotMatch({ok, [_ | _]}, names(Remote)),
    ?assertMatch({ok, [{"n", _}]}, testkit:call(Node, erl_epmd, names, [])),
    ?assertEqual(2, not_local(Host)),
    [ok = testkit:stop(VM) || VM <- [Node, Other]],
    ok.

local_closes_the_port_to_remote_nodes(_Config) ->
    {Host, Remote} = linked_hosts:start_linked(?PORT),
    ok = start(Host, #{exposure => local}),
    ok = start(Remote, #{}),
    #{exposure := local, addresses := Addresses} = testkit:call(Host, portmapper, info, []),
    ?assertEqual([{{127, 0, 0, 1}, ?PORT}, {{0, 0, 0, 0, 0, 0, 0, 1}, ?PORT}], Addresses),
    Node = linked_hosts:start_node(n, "10.99.0.1", Host, ?PORT),
    Other = linked_hosts:start_node(m, "10.99.0.2", Remote, ?PORT),
    ?assertEqual({error, econnrefused}, connect(Remote, ?NEAR)),
    ?assertEqual({error, econnrefused}, connect(Remote, ?NEAR6)),
    ?assertEqual(pang, testkit:call(Other, net_adm, ping, ['n@10.99.0.1'])),
    %% The node itself still reaches others.
    ?assertEqual(pong, testkit:call(Node, net_adm, ping, ['m@10.99.0.2'])),
    ?assertMatch({ok, [{"n", _}]}, testkit:call(Node, erl_epmd, names, [])),
    [ok = testkit:stop(VM) || VM <- [Node, Other]],
    ok.

local_refuses_remote_peers_on_listed_addresses_and_logs_them(Config) ->
    {Host, Remote} = linked_hosts:start_linked(?PORT),
    Log = filename:join(?config(priv_dir, Config), "log"),
    Handler = #{config => #{file => Log}},
    ok = testkit:call(Host, logger, add_handler, [file, logger_std_h, Handler]),
    ok = start(Host, #{exposure => local, log_level => notice, addresses => ["10.99.0.1"]}),
    {ok, _} = testkit:call(Host, portmapper, register, [n, 4711]),
    Bodies = ["n", "zn" | for_local_peers()],
    [?assertEqual(<<>>, remote_ask(Remote, Body)) || Body <- Bodies],
    ?assertEqual(length(Bodies), not_local(Host)),
    Listing = testkit:call(Host, ?MODULE, ask, [?NEAR, "n"]),
    ?assertEqual(<<?PORT:32, "name n at port 4711\n">>, Listing),
    Logged = fun() ->
        ok = testkit:call(Host, logger_std_h, filesync, [file]),
        {ok, Text} = file:read_file(Log),
        Lines = re:run(Text, "refused 10\\.99\\.0\\.2:\\d+: not local", [global]),
        {match, _} = re:run(Text, "portmapper listens on 10\\.99\\.0\\.1:.* \\(exposure local\\)"),
        Lines =/= nomatch andalso length(element(2, Lines)) =:= length(Bodies)
    end,
    ok = testkit:wait_until(Logged).

exposure_changes_live_and_nodes_stay(_Config) ->
    {Host, Remote} = linked_hosts:start_linked(?PORT),
    ok = start(Host, #{}),
    Node = linked_hosts:start_node(n, "10.99.0.1", Host, ?PORT),
    {ok, Registered} = testkit:call(Host, portmapper, lookup, [n]),
    #{port := Port} = Registered,
    [
        begin
            Change = #{exposure => Exposure},
            ?assertEqual(ok, testkit:call(Host, portmapper, reconfigure, [Change])),
            ?assertMatch(#{exposure := Exposure}, testkit:call(Host, portmapper, info, [])),
            ?assertMatch(#{exposure := Exposure}, testkit:call(Host, portmapper, config, [])),
            ?assertEqual(MayLookUp, port_please(Remote, "n") =:= {port, Port, 6}),
            ?assertEqual(MayList, names(Remote) =:= {ok, [{"n", Port}]}),
            ?assertEqual({ok, Registered}, testkit:call(Host, portmapper, lookup, [n])),
            ?assertEqual({ok, [{"n", Port}]}, testkit:call(Node, erl_epmd, names, []))
        end
     || {Exposure, MayLookUp, MayList} <- [
            {local, false, false},
            {lookup, true, false},
            {all, true, true},
            {local, false, false},
            {all, true, true}
        ]
    ],
    ok = testkit:stop(Node).

a_host_with_ipv4_alone_is_served(_Config) ->
    {Host, Remote} = linked_hosts:start(?PORT),
    ok = linked_hosts:sh(Host, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"),
    ok = linked_hosts:sh(Host, "ip addr add 10.99.0.1/24 dev near"),
    ok = linked_hosts:sh(Remote, "ip addr add 10.99.0.2/24 dev far"),
    ok = start(Host, #{exposure => lookup}),
    ok = reachable(Remote, ?NEAR),
    {ok, _} = testkit:call(Host, portmapper, register, [n, 4711]),
    ?assertEqual({port, 4711, 6}, port_please(Remote, "n")),
    ok = testkit:call(Host, portmapper, reconfigure, [#{exposure => local}]),
    #{addresses := Addresses} = testkit:call(Host, portmapper, info, []),
    ?assertEqual([{{127, 0, 0, 1}, ?PORT}], Addresses),
    ?assertEqual({error, econnrefused}, connect(Remote, ?NEAR)).

a_host_with_ipv6_alone_is_served(_Config) ->
    {Host, Remote} = linked_hosts:start(?PORT),
    ok = linked_hosts:sh(Host, "ip -4 addr flush dev lo; ip addr add fd99::1/64 dev near nodad"),
    ok = linked_hosts:sh(Remote, "ip addr add fd99::2/64 dev far nodad"),
    ok = start(Host, #{exposure => lookup}),
    ok = reachable(Remote, ?NEAR6),
    {ok, _} = testkit:call(Host, portmapper, register, [n, 4711]),
    Found = <<"w", 0, 4711:16, 77, 0, 6:16, 5:16, 1:16, "n", 0:16>>,
    ?assertEqual(Found, testkit:call(Remote, ?MODULE, ask, [?NEAR6, "zn"])),
    ?assertEqual(<<>>, testkit:call(Remote, ?MODULE, ask, [?NEAR6, "n"])),
    ok = testkit:call(Host, portmapper, reconfigure, [#{exposure => local}]),
    #{addresses := Addresses} = testkit:call(Host, portmapper, info, []),
    ?assertEqual([{{0, 0, 0, 0, 0, 0, 0, 1}, ?PORT}], Addresses),
    ?assertEqual({error, econnrefused}, connect(Remote, ?NEAR6)).

start(Host, Config) ->
    Environment = [{portmapper, maps:to_list(Config#{port => ?PORT})}],
    ok = testkit:call(Host, application, set_env, [Environment]),
    testkit:call(Host, application, start, [portmapper]).

%% What is for local peers alone, whatever the exposure.
for_local_peers() ->
    ["d", "k", "sn", testkit:alive2("m")].

not_local(Host) ->
    #{counters := #{refused := #{not_local := Count}}} = testkit:call(Host, portmapper, info, []),
    Count.

%% As a node on the remote host asks.
names(Remote) ->
    testkit:call(Remote, erl_epmd, names, [?NEAR]).

port_please(Remote, Name) ->
    testkit:call(Remote, erl_epmd, port_please, [Name, ?NEAR]).

remote_ask(Remote, Body) ->
    testkit:call(Remote, ?MODULE, ask, [?NEAR, Body]).

%% The first packets over a link may get lost.
reachable(Remote, Address) ->
    testkit:wait_until(fun() -> connect(Remote, Address) =:= ok end).

connect(Remote, Address) ->
    case testkit:call(Remote, gen_tcp, connect, [Address, ?PORT, [family(Address)], 5000]) of
        {ok, _Socket} -> ok;
        Error -> Error
    end.

family(Address) when tuple_size(Address) =:= 8 -> inet6;
family(_Address) -> inet.

%% The whole reply to a request, given without its length field. If the refusal
%% comes first, the request finds the connection closed or resets it.
ask(Address, Body) ->
    {ok, Socket} = gen_tcp:connect(
        Address, ?PORT, [binary, {active, false}, family(Address)], 10_000
    ),
    _ = gen_tcp:send(Socket, [<<(iolist_size(Body)):16>>, Body]),
    receive_all(Socket, <<>>).

receive_all(Socket, Received) ->
    case gen_tcp:recv(Socket, 0, 10_000) of
        {ok, Data} -> receive_all(Socket, <<Received/binary, Data/binary>>);
        {error, Reason} when Reason =:= closed; Reason =:= econnreset -> Received
    end.
