%% The releases in examples/, as somebody builds and runs them who has cloned
%% the repository and has no network.
-module(examples_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([
    an_erlang_release_serves_its_host_and_is_a_node_of_it/1,
    an_elixir_release_serves_its_host_and_is_a_node_of_it/1,
    erlang_releases_take_the_port_over_from_each_other/1,
    elixir_releases_take_the_port_over_from_each_other/1
]).

-define(NODE, 'switchboard@127.0.0.1').
-define(COOKIE, "examples").

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [{group, erlang}, {group, elixir}].

groups() ->
    [
        {erlang, [], [
            an_erlang_release_serves_its_host_and_is_a_node_of_it,
            erlang_releases_take_the_port_over_from_each_other
        ]},
        {elixir, [], [
            an_elixir_release_serves_its_host_and_is_a_node_of_it,
            elixir_releases_take_the_port_over_from_each_other
        ]}
    ].

init_per_suite(Config) ->
    %% Always the same place: cargo keeps what it builds for each.
    Above = filename:join([code:lib_dir(portmapper), "..", "..", "examples"]),
    _ = file:del_dir_r(Above),
    ok = filelib:ensure_path(Above),
    {0, Real} = testkit:run(["realpath", Above]),
    Directory = string:trim(unicode:characters_to_list(Real)),
    Repository = filename:join(Directory, "portmapper.git"),
    Clone = filename:join(Directory, "clone"),
    ok = repository:make(Repository),
    ok = repository:run(["git", "clone", "--quiet", Repository, Clone], Directory),
    Home = filename:join(Directory, "home"),
    ok = make_home(Home),
    [{directory, Directory}, {clone, Clone}, {home, Home} | Config].

%% Of the user who runs the release: with the cookie of that user's nodes.
make_home(Home) ->
    Cookie = filename:join(Home, ".erlang.cookie"),
    ok = filelib:ensure_dir(Cookie),
    ok = file:write_file(Cookie, ?COOKIE),
    file:change_mode(Cookie, 8#400).

end_per_suite(Config) ->
    file:del_dir_r(?config(directory, Config)).

init_per_group(erlang, Config) ->
    Release = build(Config, "erlang_release", ["rebar3", "release"], "_build/default/rel"),
    [{release, Release} | Config];
init_per_group(elixir, Config) ->
    case os:find_executable("mix") of
        false ->
            {skip, "mix is not installed (Debian's package is elixir)"};
        _ ->
            Release = build(Config, "elixir_release", ["mix", "release"], "_build/prod/rel"),
            [{release, Release} | Config]
    end.

end_per_group(_Group, _Config) ->
    ok.

an_erlang_release_serves_its_host_and_is_a_node_of_it(Config) ->
    Terminate = fun(Program, _Environment) -> terminate(Program) end,
    serves_its_host_and_is_a_node_of_it(Config, [script(Config)], Terminate).

an_elixir_release_serves_its_host_and_is_a_node_of_it(Config) ->
    Stop = fun(_Program, Environment) ->
        testkit:run([script(Config), "stop"], [{env, Environment}])
    end,
    serves_its_host_and_is_a_node_of_it(Config, [script(Config), "start"], Stop).

%% Modules are loaded when they are called first.
erlang_releases_take_the_port_over_from_each_other(Config) ->
    Auto = "-epmd_module portmapper_epmd -portmapper epmd_mode auto",
    take_the_port_over(Config, interactive, [script(Config)], [{"ERL_FLAGS", Auto}]).

%% Modules are loaded by the boot script. What is configured is what `config :portmapper,
%% epmd_mode: :auto' in config/config.exs and a line more in rel/vm.args.eex make of it.
elixir_releases_take_the_port_over_from_each_other(Config) ->
    Version = filename:join([?config(release, Config), "releases", "1.0.0"]),
    Directory = ?config(directory, Config),
    {ok, Arguments} = file:read_file(filename:join(Version, "vm.args")),
    VmArgs = filename:join(Directory, "vm.args"),
    ok = file:write_file(VmArgs, [Arguments, "-epmd_module portmapper_epmd\n"]),
    {ok, System} = file:read_file(filename:join(Version, "sys.config")),
    SysConfig = filename:join(Directory, "auto"),
    [Head, Applications] = binary:split(System, <<"\n[">>),
    Auto = [Head, "\n[{portmapper,[{epmd_mode,auto}]},", Applications],
    ok = file:write_file(SysConfig ++ ".config", Auto),
    take_the_port_over(Config, embedded, [script(Config), "start"], [
        {"RELEASE_VM_ARGS", VmArgs}, {"RELEASE_SYS_CONFIG", SysConfig}
    ]).

script(Config) ->
    filename:join([?config(release, Config), "bin", "switchboard"]).

terminate(Program) ->
    {os_pid, Pid} = erlang:port_info(Program, os_pid),
    testkit:run(["kill", "-TERM", integer_to_list(Pid)]).

%% Yields the directory of the release.
build(Config, Name, Command, Releases) ->
    Directory = ?config(directory, Config),
    Project = filename:join([?config(clone, Config), "examples", Name]),
    Environment = program:environment([
        {"CARGO_NET_OFFLINE", "true"},
        {"CARGO_TARGET_DIR", repository:target()},
        %% Nothing comes from Hex, nor from what the user has installed for mix.
        {"HEX_CDN", "http://127.0.0.1:9"},
        {"REBAR_CACHE_DIR", filename:join(Directory, "rebar3")},
        {"REBAR_GLOBAL_CONFIG_DIR", filename:join(Directory, "rebar3")},
        {"MIX_HOME", filename:join(Directory, "mix")},
        {"MIX_REBAR3", os:find_executable("rebar3")},
        {"MIX_ENV", "prod"}
    ]),
    {Status, Output} = testkit:run(Command, [{cd, Project}, {env, Environment}]),
    ?assertEqual({0, Output}, {Status, Output}),
    ?assertEqual(<<>>, changes(Config)),
    filename:join([Project, Releases, "switchboard"]).

%% What git sees in the clone that is not committed.
changes(Config) ->
    Clone = ?config(clone, Config),
    {0, Changes} = testkit:run(["git", "-C", Clone, "status", "--porcelain"], [
        {env, program:environment([])}
    ]),
    Changes.

serves_its_host_and_is_a_node_of_it(Config, Command, Stop) ->
    Port = own_vm:free_port(),
    Environment = environment(Config, Port, []),
    with(program:start(Command, [{cd, "/"}, {env, Environment}]), fun(Program) ->
        _ = program:await(Program, "portmapper listens on 127\\.0\\.0\\.1:" ++ integer_to_list(Port)),
        ok = testkit:wait_until(fun() -> testkit:lookup(Port, "directory") =/= not_found end),
        ok = a_node_registers_and_connects(Port),
        ?assertMatch([_ | _], processes_from(?config(clone, Config))),
        {0, _} = Stop(Program, Environment),
        ?assertMatch({0, _}, program:await_exit(Program))
    end),
    nothing_is_left_behind(Config, Port).

%% Two VMs, and then the one that serves is no more.
take_the_port_over(Config, Mode, Command, Auto) ->
    Port = own_vm:free_port(),
    Start = fun(Name) ->
        Own = [{"ERL_AFLAGS", "-name " ++ Name ++ "@127.0.0.1"} | Auto],
        program:start(Command, [{cd, "/"}, {env, environment(Config, Port, Own)}])
    end,
    with(Start("a"), fun(First) ->
        ok = await_listed(Port, [a, directory]),
        with(Start("b"), fun(Second) ->
            ok = await_listed(Port, [a, b, directory]),
            Guest = guest(Port),
            Call = fun(Node, Module, Function) ->
                testkit:call(Guest, rpc, call, [Node, Module, Function, []])
            end,
            Nodes = ['a@127.0.0.1', 'b@127.0.0.1'],
            ?assertEqual([Mode, Mode], [Call(Node, code, get_mode) || Node <- Nodes]),
            ?assertEqual([true, false], [Call(Node, portmapper_server, serves) || Node <- Nodes]),
            ok = program:stop(First),
            ok = await_listed(Port, [b, directory, guest]),
            ?assert(Call('b@127.0.0.1', portmapper_server, serves)),
            ok = testkit:stop(Guest),
            {0, _} = terminate(Second),
            ?assertMatch({0, _}, program:await_exit(Second))
        end)
    end),
    nothing_is_left_behind(Config, Port).

with(Program, Fun) ->
    try
        Fun(Program)
    after
        program:stop(Program)
    end.

await_listed(Port, Names) ->
    testkit:wait_until(fun() -> epmd_node:listed(Port) =:= Names end).

environment(Config, Port, More) ->
    program:environment([
        {"HOME", ?config(home, Config)},
        {"RELEASE_COOKIE", ?COOKIE},
        {"ERL_EPMD_ADDRESS", "127.0.0.1"}
        | testkit:epmd_port(Port) ++ More
    ]).

guest(Port) ->
    Guest = testkit:start_node(guest, Port),
    true = testkit:call(Guest, erlang, set_cookie, [list_to_atom(?COOKIE)]),
    Guest.

a_node_registers_and_connects(Port) ->
    Node = guest(Port),
    Names = testkit:names(Port),
    ?assertMatch([{<<"guest">>, _}, {<<"directory">>, _}, {<<"switchboard">>, _}], Names),
    ?assertEqual(Names, directory(Port)),
    ?assertEqual(pong, testkit:call(Node, net_adm, ping, [?NODE])),
    testkit:stop(Node).

%% What the service that the release registers tells.
directory(Port) ->
    {ok, Service} = testkit:lookup(Port, "directory"),
    Socket = testkit:connect(Service),
    [
        begin
            [Name, NodePort] = string:lexemes(Line, " "),
            {Name, binary_to_integer(NodePort)}
        end
     || Line <- string:lexemes(testkit:receive_all(Socket), "\n")
    ].

nothing_is_left_behind(Config, Port) ->
    ?assertEqual({error, econnrefused}, gen_tcp:connect({127, 0, 0, 1}, Port, [])),
    ok = testkit:wait_until(fun() -> processes_from(?config(clone, Config)) =:= [] end),
    ?assertEqual({ok, [".erlang.cookie"]}, file:list_dir_all(?config(home, Config))),
    ?assertEqual(<<>>, changes(Config)).

%% Those whose program is below a directory.
processes_from(Directory) ->
    [
        Link
     || Link <- filelib:wildcard("/proc/[0-9]*/exe"),
        {ok, Program} <- [file:read_link_all(Link)],
        string:prefix(Program, Directory) =/= nomatch
    ].
