%% Debian trixie in a directory of this project, for what its OTP 27 does. It is
%% made once and takes half a minute. Its programs share this host's network and
%% processes.
-module(trixie).

-export([make/0, start_with/1]).

%% A node, its C library and what compiles with it there, and Elixir.
-define(PACKAGES, "erlang-base,erlang-dev,libc6-dev,tcc,elixir").
-define(MIRROR, "http://deb.debian.org/debian").
-define(SECONDS, "240").

%% @doc The system, or why it is not to be had.
-spec make() -> {ok, clients:system()} | {unavailable, Reason :: string()}.
make() ->
    Root = filename:join([program:root(), "_build", "trixie"]),
    case filelib:is_dir(Root) of
        true ->
            usable(Root);
        false ->
            Missing = [Tool || Tool <- ["debootstrap", "chroot", "flock", "timeout"],
                os:find_executable(Tool) =:= false],
            make(Root, Missing)
    end.

%% @doc What testkit:start_vm/1 takes to start a VM there, with portmapper and modules
%% of the tests in its code path, or why it is not to be had.
-spec start_with([module()]) -> {ok, map()} | {unavailable, Reason :: string()}.
start_with(Modules) ->
    case make() of
        {ok, {chroot, Root}} ->
            Directory = "/opt/portmapper",
            Application = code:lib_dir(portmapper),
            Files =
                [{File, "ebin"} || File <- filelib:wildcard(filename:join(Application, "ebin/*"))] ++
                    [{filename:join(Application, "priv/portmapper_nif.so"), "priv"}] ++
                    [{code:which(Module), "test"} || Module <- Modules],
            [ok = put_there(File, filename:join(Root ++ Directory, To)) || {File, To} <- Files],
            Paths = [filename:join(Directory, Each) || Each <- ["ebin", "test"]],
            {ok, #{
                modules => [],
                exec => {os:find_executable("chroot"), [Root, "erl"]},
                args => ["-pa" | Paths]
            }};
        {unavailable, _} = Unavailable ->
            Unavailable
    end.

%% By rename: a VM may have the old file mapped. Another run of tests may do the same.
put_there(File, Directory) ->
    Target = filename:join(Directory, filename:basename(File)),
    New = Target ++ "." ++ os:getpid(),
    ok = filelib:ensure_dir(Target),
    {ok, _} = file:copy(File, New),
    file:rename(New, Target).

make(Root, []) ->
    Part = Root ++ ".part",
    Mirror = os:getenv("DEBIAN_MIRROR", ?MIRROR),
    Debootstrap = ["debootstrap", "--variant=minbase", "--include=" ++ ?PACKAGES, "trixie", Part],
    %% Another run of tests may be about to make it.
    Script = "remove() { rm -rf --one-file-system $PART; };"
        "test -d $ROOT || { remove && timeout " ?SECONDS " \"$@\" && mv $PART $ROOT; } ||"
        " { remove; false; }",
    Command = ["flock", Root ++ ".lock", "sh", "-c", Script, "sh" | Debootstrap ++ [Mirror]],
    ok = filelib:ensure_dir(Part),
    Variables = [{"PART", Part}, {"ROOT", Root}],
    %% More than a suite gives its cases.
    ok = ct:timetrap({minutes, 10}),
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
