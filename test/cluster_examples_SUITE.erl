%% The examples that connect nodes, as a project has them that copies them.
-module(cluster_examples_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    an_erlang_application_connects_its_nodes/1,
    a_strategy_of_libcluster_connects_its_nodes/1
]).
%% Called in other VMs.
-export([start_strategy/0, logged/0]).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [
        an_erlang_application_connects_its_nodes,
        a_strategy_of_libcluster_connects_its_nodes
    ].

an_erlang_application_connects_its_nodes(Config) ->
    Directory = directory(Config, "erlang_cluster"),
    Source = filename:join([program:root(), "examples/erlang_cluster/src"]),
    Modules = filelib:wildcard(filename:join(Source, "*.erl")),
    ?assertMatch({0, <<>>}, testkit:run(["erlc", "-Wall", "-Werror", "-o", Directory | Modules])),
    {ok, _} = file:copy(
        filename:join(Source, "fleet.app.src"), filename:join(Directory, "fleet.app")
    ),
    {_, Port} = testkit:start_portmapper(),
    _ = testkit:start_node(web1, Port),
    Node = start_node(web2, Port, [Directory]),
    ok = testkit:call(Node, application, set_env, [fleet, discovery, #{glob => "web*"}]),
    {ok, Started} = testkit:call(Node, application, ensure_all_started, [fleet]),
    ?assertEqual([fleet], Started),
    ok = testkit:wait_until(fun() -> nodes_of(Node) =:= ['web1@127.0.0.1'] end),
    ?assert(is_pid(testkit:call(Node, erlang, whereis, [fleet_log]))),
    ok = testkit:call(Node, application, stop, [fleet]),
    ?assertEqual(undefined, testkit:call(Node, erlang, whereis, [portmapper_discovery])).

a_strategy_of_libcluster_connects_its_nodes(Config) ->
    os:find_executable("elixirc") =/= false orelse
        throw({skip, "elixirc is not installed (Debian's package is elixir)"}),
    Directory = directory(Config, "libcluster"),
    Sources = [
        filename:join(?config(data_dir, Config), "libcluster.ex"),
        filename:join(
            program:root(), "examples/libcluster_portmapper/lib/cluster/strategy/portmapper.ex"
        )
    ],
    Portmapper = filename:dirname(code:which(portmapper)),
    Compile = ["elixirc", "--warnings-as-errors", "-pa", Portmapper, "-o", Directory | Sources],
    ?assertMatch({0, _}, testkit:run(Compile, [{env, program:environment([])}])),
    {0, Elixir} = testkit:run(["elixir", "-e", "IO.write(:code.lib_dir(:elixir, :ebin))"]),
    {_, Port} = testkit:start_portmapper(),
    One = testkit:start_node(web1, Port),
    Node = start_node(web2, Port, [Directory, unicode:characters_to_list(Elixir)]),
    ok = testkit:call(Node, ?MODULE, start_strategy, []),
    ok = testkit:wait_until(fun() -> nodes_of(Node) =:= ['web1@127.0.0.1'] end),
    ok = testkit:stop(One),
    Gone = {info, web, <<"disconnected from web1@127.0.0.1">>},
    ok = testkit:wait_until(fun() -> lists:member(Gone, testkit:call(Node, ?MODULE, logged, [])) end).

%% As libcluster starts it.
start_strategy() ->
    Caller = self(),
    Pid = spawn(fun() ->
        true = register(libcluster_log, self()),
        State = ('Elixir.Cluster.Strategy.State':'__struct__'())#{
            topology := web,
            connect := {net_kernel, connect_node, []},
            config := [{glob, <<"web*">>}, {hosts, [local]}]
        },
        Strategy = 'Elixir.Cluster.Strategy.Portmapper',
        #{start := {Strategy, start_link, Arguments}} = Strategy:child_spec([State]),
        {ok, _} = apply(Strategy, start_link, Arguments),
        Caller ! {self(), started},
        log([])
    end),
    receive
        {Pid, started} -> ok
    end.

log(Logged) ->
    receive
        {From, logged} ->
            From ! {libcluster_log, Logged},
            log(Logged);
        Line ->
            log([Line | Logged])
    end.

logged() ->
    libcluster_log ! {self(), logged},
    receive
        {libcluster_log, Logged} -> Logged
    end.

directory(Config, Name) ->
    Directory = filename:join(?config(priv_dir, Config), Name),
    ok = filelib:ensure_path(Directory),
    Directory.

start_node(Name, Port, Paths) ->
    testkit:start_node(Name, Port, #{
        modules => [portmapper, ?MODULE], args => ["-pa" | Paths]
    }).

nodes_of(Node) ->
    testkit:call(Node, erlang, nodes, []).
