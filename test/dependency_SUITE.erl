%% portmapper as a git dependency of another project, and the hook that builds
%% its library.
-module(dependency_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_failing_cargo_fails_the_build/1,
    a_project_builds_starts_and_uses_it/1,
    a_missing_cargo_is_told/1,
    the_hook_works_from_anywhere/1,
    the_hook_replaces_the_library_as_a_whole/1,
    the_hook_fails_without_a_library/1
]).

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [
        a_failing_cargo_fails_the_build,
        a_project_builds_starts_and_uses_it,
        a_missing_cargo_is_told,
        the_hook_works_from_anywhere,
        the_hook_replaces_the_library_as_a_whole,
        the_hook_fails_without_a_library
    ].

%% A repository with what is in the working tree, and a project that wants it.
init_per_suite(Config) ->
    %% Always the same place: cargo keeps what it builds for each.
    Directory = filename:join([code:lib_dir(portmapper), "..", "..", "dependency"]),
    ok = remove(Directory),
    Project = filename:join(Directory, "guest"),
    Repository = filename:absname(filename:join(Directory, "portmapper.git")),
    ok = repository:make(Repository),
    ok = make_project(Project, Repository),
    [{directory, Directory}, {project, Project} | Config].

end_per_suite(Config) ->
    remove(?config(directory, Config)).

remove(Directory) ->
    case file:del_dir_r(Directory) of
        ok -> ok;
        {error, enoent} -> ok
    end.

make_project(Project, Repository) ->
    Application = {application, guest, [
        {description, "Uses portmapper"},
        {vsn, "1"},
        {registered, []},
        {mod, {guest_app, []}},
        {applications, [kernel, stdlib, portmapper]}
    ]},
    Module = [
        "-module(guest_app).\n"
        "-behaviour(application).\n"
        "-export([start/2, stop/1]).\n"
        "start(_Type, _Arguments) ->\n"
        "    {ok, _Creation} = portmapper:register(\"guest\", 4711),\n"
        "    {ok, spawn_link(timer, sleep, [infinity])}.\n"
        "stop(_State) -> ok.\n"
    ],
    Url = "file://" ++ Repository,
    Files = [
        {"rebar.config", term({deps, [{portmapper, {git, Url, {branch, "main"}}}]})},
        {"src/guest.app.src", term(Application)},
        {"src/guest_app.erl", Module}
    ],
    lists:foreach(fun({Name, Text}) -> write(filename:join(Project, Name), Text) end, Files).

term(Term) ->
    io_lib:format("~p.~n", [Term]).

write(File, Text) ->
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Text).

%% Compiles the project without a network, with more variables.
compile(Project, Variables) ->
    Own = filename:join(Project, "rebar3"),
    Environment = program:environment([
        {"HEX_CDN", "http://127.0.0.1:9"},
        {"REBAR_CACHE_DIR", Own},
        {"REBAR_GLOBAL_CONFIG_DIR", Own},
        {"CARGO_TARGET_DIR", repository:target()}
        | Variables
    ]),
    testkit:run(["rebar3", "compile"], [{cd, Project}, {env, Environment}]).

library(Project) ->
    filename:join([Project, "_build", "default", "lib", "portmapper", "priv", "portmapper_nif.so"]).

a_failing_cargo_fails_the_build(Config) ->
    Project = ?config(project, Config),
    Path = fake_cargo(Config, "echo 'error: no linker'; exit 1"),
    {Status, Output} = compile(Project, [{"PATH", Path ++ ":" ++ os:getenv("PATH")}]),
    ?assertEqual({1, match}, {Status, re:run(Output, "error: no linker", [{capture, none}])}),
    ?assertNot(filelib:is_file(library(Project))),
    ?assertNot(filelib:is_file(filename:join(Project, "_build/default/lib/guest/ebin/guest.app"))).

%% A directory with a program `cargo' in it.
fake_cargo(Config, Script) ->
    Directory = filename:join(?config(priv_dir, Config), "bin"),
    File = filename:join(Directory, "cargo"),
    ok = write(File, ["#!/bin/sh\n", Script, "\n"]),
    ok = file:change_mode(File, 8#755),
    Directory.

a_project_builds_starts_and_uses_it(Config) ->
    Project = ?config(project, Config),
    {Status, Output} = compile(Project, []),
    ?assertEqual({0, Output}, {Status, Output}),
    ?assert(filelib:is_regular(library(Project))),
    Port = own_vm:free_port(),
    Ebins = filelib:wildcard(filename:join(Project, "_build/default/lib/*/ebin")),
    Start =
        %% Should it fail to end.
        "{ok, _} = timer:apply_after(60000, erlang, halt, [9]),"
        "{ok, _} = application:ensure_all_started(guest, permanent), io:put_chars(\"started\n\").",
    Environment = [
        "-portmapper", "port", integer_to_list(Port),
        "addresses", "[\"127.0.0.1\"]",
        "relaxed_command_check", "true"
    ],
    Command = ["erl", "-noinput", "-pa"] ++ Ebins ++ ["-eval", Start | Environment],
    Guest = program:start(Command, [{env, program:environment([])}]),
    try
        _ = program:await(Guest, "started\n"),
        ?assertEqual({ok, 4711}, testkit:lookup(Port, "guest")),
        ?assertEqual(<<"OK">>, testkit:request(Port, "k")),
        ?assertMatch({0, _}, program:await_exit(Guest))
    after
        program:stop(Guest)
    end.

%% A copy of the hook in a place with a space in its path.
hook(Config) ->
    Root = filename:join([?config(priv_dir, Config), "with spaces"]),
    ok = remove(Root),
    Hook = filename:join([Root, "native", "build-nif.sh"]),
    ok = filelib:ensure_dir(Hook),
    {ok, _} = file:copy(filename:join([program:root(), "native", "build-nif.sh"]), Hook),
    {Root, Hook}.

run_hook(Hook, Path, Variables) ->
    Options = [{cd, "/"}, {env, program:environment([{"PATH", Path} | Variables])}],
    testkit:run(["sh", Hook], Options).

a_missing_cargo_is_told(Config) ->
    {_, Hook} = hook(Config),
    Directory = filename:join(?config(priv_dir, Config), "without cargo"),
    ok = filelib:ensure_path(Directory),
    _ = file:make_symlink(os:find_executable("dirname"), filename:join(Directory, "dirname")),
    ?assertEqual(
        {1, <<"portmapper: cargo is needed to build the NIF (https://rustup.rs)\n">>},
        run_hook(Hook, Directory, [])
    ).

%% Does what cargo would, with its last argument as the directory to build in.
builds(Text) ->
    "for target; do :; done; mkdir -p \"$target/release\"; "
    "echo " ++ Text ++ " > \"$target/release/libportmapper_nif.so\"".

built(Config, Text, Hook, Variables) ->
    Path = fake_cargo(Config, builds(Text)),
    run_hook(Hook, Path ++ ":" ++ os:getenv("PATH"), [{"CARGO_TARGET_DIR", false} | Variables]).

the_hook_works_from_anywhere(Config) ->
    {Root, Hook} = hook(Config),
    Library = filename:join([Root, "priv", "portmapper_nif.so"]),
    Elsewhere = filename:join(?config(priv_dir, Config), "target of mine"),
    Variables = [
        [],
        [{"CARGO_TARGET_DIR", "relative target"}],
        [{"CARGO_TARGET_DIR", Elsewhere}],
        [{"CARGO_BUILD_TARGET_DIR", Elsewhere}]
    ],
    [
        begin
            Text = integer_to_list(N),
            ?assertEqual({0, <<>>}, built(Config, Text, Hook, lists:nth(N, Variables))),
            ?assertEqual({ok, list_to_binary([Text, $\n])}, file:read_file(Library))
        end
     || N <- lists:seq(1, length(Variables))
    ],
    ?assertEqual({ok, ["portmapper_nif.so"]}, file:list_dir(filename:dirname(Library))).

%% A VM may have the one before mapped.
the_hook_replaces_the_library_as_a_whole(Config) ->
    {Root, Hook} = hook(Config),
    Library = filename:join([Root, "priv", "portmapper_nif.so"]),
    {0, <<>>} = built(Config, "old", Hook, []),
    {ok, Old} = file:open(Library, [read]),
    {0, <<>>} = built(Config, "new", Hook, []),
    ?assertEqual({ok, "old\n"}, file:read_line(Old)),
    ?assertEqual({ok, <<"new\n">>}, file:read_file(Library)),
    file:close(Old).

the_hook_fails_without_a_library(Config) ->
    {Root, Hook} = hook(Config),
    Path = fake_cargo(Config, "true") ++ ":" ++ os:getenv("PATH"),
    {1, Output} = run_hook(Hook, Path, [{"CARGO_TARGET_DIR", "target"}]),
    ?assertEqual(<<"portmapper: cargo built no target/release/libportmapper_nif.so\n">>, Output),
    ?assertNot(filelib:is_file(filename:join(Root, "priv"))).
