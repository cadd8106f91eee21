%% Hosts that a real systemd runs: process 1 of namespaces of its own. They end
%% with that process, and leave nothing.
-module(systemd_host).

-export([start/2, user/1, run/2, start_program/2, systemctl/2, manager/1]).
-export([show/2, show/3, units/1, stop/1]).
-export_type([host/0]).

%% Its process 1, as it is seen from here, and who it is entered as.
-type host() :: #{pid := string(), cgroup := file:filename(), as := root | user}.

%% A user that every system has, which no person is.
-define(USER, "1").
%% Where the user finds the own manager, and that one its units.
-define(USER_VARIABLES, [
    "HOME=/run/home", "XDG_RUNTIME_DIR=/run/user/" ?USER, "SYSTEMD_UNIT_PATH=" ?USER_UNITS
]).
-define(USER_UNITS, "/run/home/.config/systemd/user").

%% @doc Starts a host that has `both' families of addresses, or one. Its units
%% are those of the project, its /opt/portmapper the release; or why there can
%% be none.
-spec start(both | ipv4 | ipv6, #{data := file:filename(), release := file:filename()}) ->
    {ok, host()} | {error, Reason :: string()}.
start(Families, Options) ->
    case lacking() of
        [] -> start(Families, Options, cgroup());
        [Reason | _] -> {error, Reason}
    end.

lacking() ->
    Needed = [
        {fun() -> element(2, testkit:run(["id", "-u"])) =:= <<"0\n">> end, "not root"},
        {fun() -> filelib:is_regular("/lib/systemd/systemd") end, "no systemd here"},
        {fun() -> cgroup() =/= none end, "no control groups of version 2 here"},
        {fun() -> element(1, testkit:run(namespaces() ++ ["true"])) =:= 0 end,
            "no namespaces to be had here"}
    ],
    [Reason || {Holds, Reason} <- Needed, not Holds()].

namespaces() ->
    Kinds = ["--pid", "--mount", "--net", "--cgroup", "--ipc", "--uts"],
    ["unshare" | Kinds] ++ ["--fork", "--kill-child"].

%% A control group below our own that nobody else has.
cgroup() ->
    Mounts = element(2, testkit:run(["findmnt", "--noheadings", "-t", "cgroup2", "-o", "TARGET"])),
    {ok, Own} = file:read_file("/proc/self/cgroup"),
    case {string:lexemes(Mounts, "\n"), re:run(Own, "^0::(.*)$", [multiline, {capture, [1], list}])} of
        {[Mount | _], {match, [Path]}} ->
            Unique = integer_to_list(erlang:unique_integer([positive])),
            Name = ["/portmapper-test-", os:getpid(), "-", Unique],
            lists:flatten([unicode:characters_to_list(Mount), string:trim(Path, trailing, "/"), Name]);
        _ ->
            none
    end.

start(Families, #{data := Data, release := Release}, Cgroup) ->
    ok = file:make_dir(Cgroup),
    Units = filename:join(program:root(), "systemd"),
    Join = ["sh", "-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"", Cgroup],
    Script = ["sh", filename:join(Data, "host.sh"), atom_to_list(Families), Release, Units, "2s"],
    Program = program:start(Join ++ namespaces() ++ Script, []),
    Host = #{cgroup => Cgroup, pid => child(Program), as => root},
    ok = testkit:wait_until(fun() -> is_up(Host) end, 30_000),
    {ok, Host}.

child(Program) ->
    {os_pid, Parent} = erlang:port_info(Program, os_pid),
    File = lists:concat(["/proc/", Parent, "/task/", Parent, "/children"]),
    Children = fun() ->
        {ok, Text} = file:read_file(File),
        string:lexemes(unicode:characters_to_list(Text), " ")
    end,
    ok = testkit:wait_until(fun() -> length(Children()) =:= 1 end),
    hd(Children()).

is_up(Host) ->
    case systemctl(Host, ["is-system-running"]) of
        {_, <<"running\n">>} -> true;
        {_, <<"degraded\n">>} -> true;
        _ -> false
    end.

%% @doc The same host for a user whose service manager is started, and whose units are
%% those of the project.
-spec user(host()) -> host().
user(#{as := root} = Host) ->
    {0, <<>>} = systemctl(Host, ["start", "user@" ?USER ".service"]),
    Host#{as := user}.

%% @doc Runs a program there: its exit status and what it printed.
-spec run(host(), [string()]) -> {non_neg_integer(), binary()}.
run(Host, Command) ->
    testkit:run(enter(Host) ++ Command, [{env, program:environment([])}]).

%% @doc Starts a program there.
-spec start_program(host(), [string()]) -> program:program().
start_program(Host, Command) ->
    program:start(enter(Host) ++ Command, [{env, program:environment([])}]).

enter(#{pid := Pid, as := root}) ->
    ["nsenter", "--all", "--target", Pid];
enter(#{pid := Pid, as := user}) ->
    As = ["--setuid", ?USER, "--setgid", ?USER],
    ["nsenter", "--all", "--target", Pid] ++ As ++ ["env" | ?USER_VARIABLES].

%% @doc Asks the service manager there, which is that of the user for a user.
-spec systemctl(host(), [string()]) -> {non_neg_integer(), binary()}.
systemctl(Host, Arguments) ->
    run(Host, ["systemctl", manager(Host) | Arguments]).

%% @doc The option by which programs of systemd know the manager.
-spec manager(host()) -> string().
manager(#{as := root}) -> "--system";
manager(#{as := user}) -> "--user".

%% @doc A property of epmd.service.
-spec show(host(), string()) -> string().
show(Host, Property) ->
    show(Host, Property, "epmd.service").

%% @doc A property of a unit.
-spec show(host(), string(), string()) -> string().
show(Host, Property, Unit) ->
    {0, Output} = systemctl(Host, ["show", "--value", "--property", Property, Unit]),
    string:trim(unicode:characters_to_list(Output)).

%% @doc Where its manager has the units.
-spec units(host()) -> file:filename().
units(#{as := root}) -> "/run/units";
units(#{as := user}) -> ?USER_UNITS.

%% @doc Ends the host with all that runs there.
-spec stop(host()) -> ok.
stop(#{pid := Pid, cgroup := Cgroup}) ->
    {0, _} = testkit:run(["kill", "-9", Pid]),
    %% Its groups are empty once the kernel has buried everybody.
    testkit:wait_until(fun() -> remove(Cgroup) =:= ok end).

remove(Cgroup) ->
    {0, Output} = testkit:run(["find", Cgroup, "-depth", "-type", "d"]),
    Removed = [file:del_dir(Directory) || Directory <- string:lexemes(Output, "\n")],
    lists:last(Removed).
