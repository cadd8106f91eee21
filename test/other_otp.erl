%% Debian in a directory of this project, for what its OTP does: trixie with OTP 27, or
%% what the variable DEBIAN_RELEASE says. It is made once and takes half a minute. Its
%% programs share this host's network and processes.
-module(other_otp).

-export([make/0, start_with/1, file/2]).

%% A node, its C library and what compiles with it there, and Elixir.
-define(PACKAGES, "erlang-base,erlang-dev,libc6-dev,tcc,elixir").
-define(RELEASE, "trixie").
-define(MIRROR, "http://deb.debian.org/debian").
-define(SECONDS, "240").
%% Where portmapper is there.
-define(PLACE, "/opt/portmapper").

%% @doc The system, or why it is not to be had.
-spec make() -> {ok, clients:system()} | {unavailable, Reason :: string()}.
make() ->
    Root = filename:join([program:root(), "_build", release()]),
    case filelib:is_dir(Root) of
        true ->
            usable(Root);
        false ->
            Missing = [Tool || Tool <- ["debootstrap", "chroot", "flock", "timeout"],
                os:find_executable(Tool) =:= false],
            make(Root, Missing)
    end.

%% @doc What testkit:start_vm/1 takes to start a VM there, with portmapper and modules
%% of the tests in its code path, or why it is not to be had. They are compiled there: no
%% VM loads what one four releases older has compiled.
-spec start_with([module()]) -> {ok, map()} | {unavailable, Reason :: string()}.
start_with(Modules) ->
    case make() of
        {ok, {chroot, Root}} ->
            Application = code:lib_dir(portmapper),
            Sources =
                filelib:wildcard(filename:join(program:root(), "erlang_src/*.erl")) ++
                    [filename:join([program:root(), "test", source(Module)]) || Module <- Modules],
            [
                ok = put_there(File, filename:join(Root ++ ?PLACE, To))
             || {File, To} <-
                    [{Source, "src"} || Source <- Sources] ++
                        [{File, "ebin"} || File <- filelib:wildcard(Application ++ "/ebin/*.app")] ++
                        [
                            {Application ++ "/priv/portmapper_nif.so", "priv"},
                            %% What suites include, and a small Erlang does not have.
                            {code:lib_dir(common_test) ++ "/include/ct.hrl", "common_test/include"}
                        ]
            ],
            compile(Root, Sources),
            {ok, #{
                modules => [],
                exec => {os:find_executable("chroot"), [Root, "erl"]},
                args => ["-pa", ?PLACE "/ebin"]
            }};
        {unavailable, _} = Unavailable ->
            Unavailable
    end.

%% @doc Where a file beside portmapper is in such a system, seen from here and from there.
-spec file(clients:system(), file:filename()) -> {file:filename(), file:filename()}.
file({chroot, Root}, Name) ->
    There = filename:join(?PLACE, Name),
    {Root ++ There, There}.

source(Module) ->
    atom_to_list(Module) ++ ".erl".

compile(Root, Sources) ->
    Files = [filename:join(?PLACE "/src", filename:basename(Source)) || Source <- Sources],
    Options = ["-Werror", "+debug_info", "-I", ?PLACE, "-o", ?PLACE "/ebin"],
    {0, <<>>} = testkit:run(["chroot", Root, "erlc"] ++ Options ++ Files),
    ok.

%% By rename: a VM may have the old file mapped. Another run of tests may do the same.
put_there(File, Directory) ->
    Target = filename:join(Directory, filename:basename(File)),
    New = Target ++ "." ++ os:getpid(),
    ok = filelib:ensure_dir(Target),
    {ok, _} = file:copy(File, New),
    file:rename(New, Target).

release() ->
    os:getenv("DEBIAN_RELEASE", ?RELEASE).

make(Root, []) ->
    Part = Root ++ ".part",
    Mirror = os:getenv("DEBIAN_MIRROR", ?MIRROR),
    Debootstrap = ["debootstrap", "--variant=minbase", "--include=" ++ ?PACKAGES, release(), Part],
    %% Another run of tests may be about to make it.
    Script = "remove() { rm -rf --one-file-system $PART; };"
        "test -d $ROOT || { remove && timeout " ?SECONDS " \"$@\" && mv $PART $ROOT; } ||"
        " { remove; false; }",
    Command = ["flock", Root ++ ".lock", "sh", "-c", Script, "sh" | Debootstrap ++ [Mirror]],
    ok = filelib:ensure_dir(Part),
    Variables = [{"PART", Part}, {"ROOT", Root}],
    %% More than a suite gives its cases.
    _ = ct:timetrap({minutes, 10}),
    case testkit:run(Command, [{env, program:environment(Variables)}]) of
        {0, _} ->
            usable(Root);
        {_, Output} ->
            Last = lists:last(string:lexemes(Output, "\n")),
            {unavailable, unicode:characters_to_list(["debootstrap: ", Last])}
    end;
make(_Root, Missing) ->
    {unavailable, "needs " ++ lists:flatten(lists:join(", ", Missing))}.

%% It may be there from another user. Programs look up the name of the host.
usable(Root) ->
    case testkit:run(["chroot", Root, "true"]) of
        {0, _} ->
            {ok, _} = file:copy("/etc/hosts", filename:join(Root, "etc/hosts")),
            {ok, {chroot, Root}};
        {_, Output} -> {unavailable, string:trim(unicode:characters_to_list(Output))}
    end.
