%% The releases in examples/, as somebody builds and runs them who has cloned
%% the repository and has no network.
-module(examples_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2]).
-export([
    an_erlang_release_serves_its_host_and_is_a_node_of_it/1,
    an_elixir_release_serves_its_host_and_is_a_node_of_it/1
]).

-define(NODE, 'switchboard@127.0.0.1').
-define(COOKIE, "examples").

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [
        an_erlang_release_serves_its_host_and_is_a_node_of_it,
        an_elixir_release_serves_its_host_and_is_a_node_of_it
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

init_per_testcase(an_elixir_release_serves_its_host_and_is_a_node_of_it, Config) ->
    case os:find_executable("mix") of
        false -> {skip, "mix is not installed (Debian's package is elixir)"};
        _ -> Config
    end;
init_per_testcase(_, Config) ->
    Config.

an_erlang_release_serves_its_host_and_is_a_node_of_it(Config) ->
    Release = build(Config, "erlang_release", ["rebar3", "release"], "_build/default/rel"),
    Terminate = fun(Program, _Environment) ->
        {os_pid, Pid} = erlang:port_info(Program, os_pid),
        testkit:run(["kill", "-TERM", integer_to_list(Pid)])
    end,
    serves_its_host_and_is_a_node_of_it(Config, [Release], Terminate).

an_elixir_release_serves_its_host_and_is_a_node_of_it(Config) ->
    Release = build(Config, "elixir_release", ["mix", "release"], "_build/prod/rel"),
    Stop = fun(_Program, Environment) ->
        testkit:run([Release, "stop"], [{env, Environment}])
    end,
    serves_its_host_and_is_a_node_of_it(Config, [Release, "start"], Stop).

%% Yields the script that starts the release.
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
    filename:join([Project, Releases, "switchboard", "bin", "switchboard"]).

%% What git sees in the clone that is not committed.
changes(Config) ->
    Clone = ?config(clone, Config),
    {0, Changes} = testkit:run(["git", "-C", Clone, "status", "--porcelain"], [
        {env, program:environment([])}
    ]),
    Changes.

serves_its_host_and_is_a_node_of_it(Config, Command, Stop) ->
    Port = own_vm:free_port(),
    Environment = program:environment([
        {"HOME", ?config(home, Config)},
        {"RELEASE_COOKIE", ?COOKIE},
        {"ERL_EPMD_ADDRESS", "127.0.0.1"}
        | testkit:epmd_port(Port)
    ]),
    Program = program:start(Command, [{cd, "/"}, {env, Environment}]),
    try
        _ = program:await(Program, "portmapper listens on 127\\.0\\.0\\.1:" ++ integer_to_list(Port)),
        ok = testkit:wait_until(fun() -> testkit:lookup(Port, "directory") =/= not_found end),
        ok = a_node_registers_and_connects(Port),
        ?assertMatch([_ | _], processes_from(?config(clone, Config))),
        {0, _} = Stop(Program, Environment),
        ?assertMatch({0, _}, program:await_exit(Program)),
        nothing_is_left_behind(Config, Port)
    after
        program:stop(Program)
    end.

a_node_registers_and_connects(Port) ->
    Node = testkit:start_node(guest, Port),
    Names = testkit:names(Port),
    ?assertMatch([{<<"guest">>, _}, {<<"directory">>, _}, {<<"switchboard">>, _}], Names),
    ?assertEqual(Names, directory(Port)),
    true = testkit:call(Node, erlang, set_cookie, [?NODE, list_to_atom(?COOKIE)]),
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
