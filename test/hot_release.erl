%% Two releases of OTP with this application: as it is, and with a library and a
%% version of its own; and how one becomes the other in a VM.
-module(hot_release).

-export([make/0, remove/1, start/1, start/2, install/2]).
-export_type([releases/0]).

-type releases() :: #{root := file:filename(), versions => [string()]}.

%% @doc Makes both.
-spec make() -> releases().
make() ->
    %% Always the same place: cargo keeps what it builds for each.
    Root = filename:absname_join(code:lib_dir(portmapper), "../../upgrade"),
    ok = remove(#{root => Root}),
    ok = filelib:ensure_path(Root),
    Version = version_of(portmapper),
    Next = next(Version),
    ok = copy_built(filename:dirname(filename:dirname(code:which(portmapper))), Root, Version),
    Tree = filename:join(Root, "tree"),
    ok = make_tree(Root, Tree, Version, Next),
    ok = compile(Tree),
    ok = copy_built(filename:join(Tree, "_build/default/lib/portmapper"), Root, Next),
    ok = make_release(Root, Version),
    ok = make_release(Root, Next),
    Old = release_file(Root, Version),
    Options = [silent, {path, ebins(Root)}, {outdir, release_directory(Root, Next)}],
    {ok, _, _, _} = systools:make_relup(release_file(Root, Next), [Old], [Old], Options),
    #{root => Root, versions => [Version, Next]}.

%% @doc Removes both.
-spec remove(releases()) -> ok.
remove(#{root := Root}) ->
    case file:del_dir_r(Root) of
        ok -> ok;
        {error, enoent} -> ok
    end.

next(Version) ->
    [Last | Others] = lists:reverse(string:split(Version, ".", all)),
    Next = integer_to_list(list_to_integer(Last) + 1),
    lists:flatten(lists:join(".", lists:reverse([Next | Others]))).

%% The application as it was built.
copy_built(Built, Root, Version) ->
    Library = filename:join([Root, "lib", "portmapper-" ++ Version]),
    ok = filelib:ensure_path(Library),
    repository:run(
        ["cp", "-RL", filename:join(Built, "ebin"), filename:join(Built, "priv"), Library], Root
    ).

%% This project with another version.
make_tree(Root, Tree, Version, Next) ->
    Repository = filename:join(Root, "portmapper.git"),
    ok = repository:make(Repository),
    ok = repository:run(["git", "clone", "--quiet", Repository, Tree], Root),
    Versioned = ["Cargo.toml", "erlang_src/portmapper.app.src", "ebin/portmapper.appup"],
    [ok = replace(Tree, File, [$", Version, $"], [$", Next, $"]) || File <- Versioned],
    %% Of two libraries of one name, cargo keeps the last.
    Name = "portmapper_nif",
    ok = replace(Tree, "native/epmd_nif/Cargo.toml", Name, Name ++ "_next"),
    ok = replace(Tree, "native/build-nif.sh", "lib" ++ Name, "lib" ++ Name ++ "_next"),
    repository:run(["cargo", "update", "--quiet", "--offline", "--workspace"], Tree).

replace(Tree, Name, Old, New) ->
    File = filename:join(Tree, Name),
    {ok, Text} = file:read_file(File),
    file:write_file(File, string:replace(Text, Old, New, all)).

compile(Tree) ->
    Variables = program:environment([{"CARGO_TARGET_DIR", repository:target()}]),
    {0, _} = testkit:run(["rebar3", "compile"], [{cd, Tree}, {env, Variables}]),
    ok.

make_release(Root, Version) ->
    Directory = release_directory(Root, Version),
    ok = filelib:ensure_path(Directory),
    Applications = [{Name, version_of(Name)} || Name <- otp()] ++ [{portmapper, Version}],
    Release =
        {release, {"hot", Version}, {erts, erlang:system_info(version)}, Applications},
    Own = [{port, 0}, {addresses, ["127.0.0.1"]}, {takeover_socket, none}],
    Config = [{portmapper, Own}],
    ok = write_term(release_file(Root, Version) ++ ".rel", Release),
    ok = write_term(filename:join(Directory, "sys.config"), Config),
    Options = [local, silent, {path, ebins(Root)}, {outdir, Directory}],
    {ok, _, _} = systools:make_script(release_file(Root, Version), Options),
    ok.

otp() -> [kernel, stdlib, sasl].

version_of(Name) ->
    _ = application:load(Name),
    {ok, Version} = application:get_key(Name, vsn),
    Version.

otp_directories() ->
    [{Name, version_of(Name), code:lib_dir()} || Name <- otp()].

ebins(Root) ->
    [filename:join([Root, "lib", "portmapper-*", "ebin"])].

release_directory(Root, Version) ->
    filename:join([Root, "releases", Version]).

release_file(Root, Version) ->
    filename:join(release_directory(Root, Version), "start").

write_term(File, Term) ->
    file:write_file(File, io_lib:format("~p.~n", [Term])).

%% @doc A VM of the first release, which knows the other one, and its port.
-spec start(releases()) -> {testkit:vm(), inet:port_number()}.
start(Releases) ->
    start(Releases, #{}).

%% @doc The same with more of what testkit:start_vm/1 takes.
-spec start(releases(), map()) -> {testkit:vm(), inet:port_number()}.
start(#{root := Root, versions := [First, Second]}, Options) ->
    Directory = release_directory(Root, First),
    ok = release_handler:create_RELEASES(
        Root, filename:join(Root, "releases"), release_file(Root, First) ++ ".rel",
        otp_directories()
    ),
    Releases = lists:flatten(io_lib:format("~p", [filename:join(Root, "releases")])),
    VM = testkit:start_vm(Options#{
        modules => [callers],
        args =>
            ["-boot", filename:join(Directory, "start")] ++
                ["-config", filename:join(Directory, "sys")] ++
                ["-sasl", "releases_dir", Releases]
    }),
    Libraries = [{portmapper, Second, filename:join(Root, "lib")} | otp_directories()],
    File = release_file(Root, Second) ++ ".rel",
    {ok, Second} = testkit:call(VM, release_handler, set_unpacked, [File, Libraries]),
    #{addresses := [{_, Port} | _]} = testkit:call(VM, portmapper, info, []),
    {VM, Port}.

%% @doc Makes the VM one of the release of this version.
-spec install(testkit:vm(), Version :: string()) -> ok.
install(VM, Version) ->
    {ok, _, _} = testkit:call(VM, release_handler, install_release, [Version]),
    ok.
