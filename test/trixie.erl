%% Debian trixie in a directory of this project, for what its OTP 27 does. It is
%% made once and takes half a minute. Its programs share this host's network and
%% processes.
-module(trixie).

-export([make/0]).

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
            Missing = [Tool || Tool <- ["debootstrap", "chroot", "timeout"],
                os:find_executable(Tool) =:= false],
            make(Root, Missing)
    end.

make(Root, []) ->
    Part = Root ++ ".part",
    ok = remove(Part),
    Mirror = os:getenv("DEBIAN_MIRROR", ?MIRROR),
    Debootstrap = ["debootstrap", "--variant=minbase", "--include=" ++ ?PACKAGES],
    Command = ["timeout", ?SECONDS] ++ Debootstrap ++ ["trixie", Part, Mirror],
    ok = filelib:ensure_dir(Part),
    case testkit:run(Command, [{env, program:environment([])}]) of
        {0, _} ->
            ok = file:rename(Part, Root),
            usable(Root);
        {_, Output} ->
            ok = remove(Part),
            Last = lists:last(string:lexemes(Output, "\n")),
            {unavailable, unicode:characters_to_list(["debootstrap: ", Last])}
    end;
make(_Root, Missing) ->
    {unavailable, "needs " ++ lists:flatten(lists:join(", ", Missing))}.

remove(Directory) ->
    {0, _} = testkit:run(["rm", "-rf", "--one-file-system", Directory]),
    ok.

%% It may be there from another user. Programs look up the name of the host.
usable(Root) ->
    case testkit:run(["chroot", Root, "true"]) of
        {0, _} ->
            {ok, _} = file:copy("/etc/hosts", filename:join(Root, "etc/hosts")),
            {ok, {chroot, Root}};
        {_, Output} -> {unavailable, string:trim(unicode:characters_to_list(Output))}
    end.
