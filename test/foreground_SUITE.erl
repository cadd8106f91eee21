%% `epmd' in the foreground, and as the first process of a container; and what
%% it logs, there and in the background.
-module(foreground_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    the_started_process_serves_and_logs_to_stderr/1,
    d_shows_nodes_and_requests/1,
    d_twice_shows_connections_too/1,
    d_three_times_shows_bytes_too/1,
    sigterm_ends_it_in_order/1,
    sigint_ends_it/1,
    kill_ends_it_with_status_0/1,
    it_runs_on_without_standard_input/1,
    it_runs_on_when_nobody_reads_its_messages_any_more/1,
    a_deleted_working_directory_does_no_harm/1,
    in_the_background_it_logs_to_the_system_log/1,
    as_first_process_it_reaps_orphans_and_ends_on_sigterm/1,
    as_first_process_it_ends_on_kill/1,
    the_background_works_in_a_container/1
]).

suite() ->
    [{timetrap, {seconds, 60}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

the_started_process_serves_and_logs_to_stderr(Config) ->
    Port = ?config(port, Config),
    File = filename:join(?config(priv_dir, Config), "stdout"),
    Epmd = start(Config, ["sh", "-c", "exec $EPMD >" ++ File]),
    Output = program:await(Epmd, "portmapper listens on .*\n"),
    ?assertMatch({match, _}, re:run(Output, "^epmd: \\S+ notice: portmapper listens on 127.0.0.1:")),
    Pid = release:pid(Port),
    ?assertEqual(os_pid(Epmd), release:keeper(Pid)),
    ?assertEqual([Pid], release:vms(Port)),
    ?assertEqual({ok, <<>>}, file:read_file(File)),
    %% Without -d nodes and requests are not told of.
    {ok, Socket, _Creation} = testkit:register(Port, "n", 4711),
    ok = gen_tcp:close(Socket),
    {0, Last} = ended(Epmd, "-TERM"),
    ?assertMatch({match, _}, re:run(Last, "^epmd: \\S+ notice: SIGTERM received - shutting down\n$")).

d_shows_nodes_and_requests(Config) ->
    Port = ?config(port, Config),
    Epmd = start(Config, [release:epmd(), "-d"]),
    _ = program:await(Epmd, "listens on"),
    {ok, Socket, _Creation} = testkit:register(Port, "n", 4711),
    Up = program:await(Epmd, "info: node n is up: port 4711"),
    ?assertMatch({match, _}, re:run(Up, "debug: 127.0.0.1:\\d+ asks ALIVE2 n")),
    ?assertEqual(nomatch, re:run(Up, "connected|bytes")),
    ok = gen_tcp:close(Socket),
    _ = program:await(Epmd, "info: node n is down"),
    ?assertEqual(not_found, testkit:lookup(Port, "m")),
    _ = program:await(Epmd, "debug: 127.0.0.1:\\d+ asks PORT_PLEASE2 m").

d_twice_shows_connections_too(Config) ->
    Epmd = start(Config, [release:epmd(), "-d", "-d"]),
    _ = program:await(Epmd, "listens on"),
    [] = testkit:names(?config(port, Config)),
    Output = program:await(Epmd, "asks NAMES"),
    ?assertMatch({match, _}, re:run(Output, "debug: 127.0.0.1:\\d+ has connected")),
    ?assertEqual(nomatch, re:run(Output, "bytes")).

d_three_times_shows_bytes_too(Config) ->
    Epmd = start(Config, [release:epmd(), "-d", "-debug", "-d"]),
    _ = program:await(Epmd, "listens on"),
    [] = testkit:names(?config(port, Config)),
    _ = program:await(Epmd, "debug: 127.0.0.1:\\d+ sent 1 bytes: 6e").

sigterm_ends_it_in_order(Config) ->
    Port = ?config(port, Config),
    Epmd = serving(Config, []),
    {ok, Socket, _Creation} = testkit:register(Port, "n", 4711),
    ?assertMatch({0, _}, ended(Epmd, "-TERM")),
    ?assertEqual(<<>>, testkit:receive_all(Socket)),
    ok = release:await_end(Port).

sigint_ends_it(Config) ->
    %% What runs in the background may have it ignored, and then so does what it starts.
    Epmd = start(Config, ["env", "--default-signal=INT", release:epmd()]),
    _ = program:await(Epmd, "listens on"),
    _ = ended(Epmd, "-INT"),
    ok = release:await_end(?config(port, Config)).

kill_ends_it_with_status_0(Config) ->
    Port = ?config(port, Config),
    Epmd = serving(Config, ["-relaxed_command_check"]),
    {ok, _Socket, _Creation} = testkit:register(Port, "n", 4711),
    ?assertEqual({0, <<"Killed\n">>}, release:run(Port, ["-kill"])),
    {0, Output} = program:await_exit(Epmd),
    ?assertMatch({match, _}, re:run(Output, "notice: portmapper ends: \\S+ sent KILL")),
    ok = release:await_end(Port).

it_runs_on_without_standard_input(Config) ->
    Epmd = start(Config, ["sh", "-c", "exec $EPMD <&-"]),
    _ = program:await(Epmd, "listens on"),
    ?assertEqual([], release:names(?config(port, Config))),
    ?assertMatch({0, _}, ended(Epmd, "-TERM")).

it_runs_on_when_nobody_reads_its_messages_any_more(Config) ->
    Port = ?config(port, Config),
    File = filename:join(?config(priv_dir, Config), "lines"),
    Script = "rm -f F; mkfifo F; head -n 1 <F >F.first & exec $EPMD -d -d 2>F",
    Epmd = start(Config, ["sh", "-c", string:replace(Script, "F", File, all)]),
    First = File ++ ".first",
    ok = testkit:wait_until(fun() -> {ok, <<>>} =/= file:read_file(First) andalso
        filelib:is_file(First) end),
    [?assertEqual({0, <<>>}, release:run(Port, ["-started"])) || _ <- lists:seq(1, 20)],
    {ok, _Socket, _Creation} = testkit:register(Port, "n", 4711),
    ?assertEqual([<<"name n at port 4711">>], release:names(Port)),
    ?assertMatch({0, _}, ended(Epmd, "-TERM")).

a_deleted_working_directory_does_no_harm(Config) ->
    Epmd = start(Config, ["sh", "-c", "d=$(mktemp -d); cd $d; rmdir $d; exec $EPMD"]),
    _ = program:await(Epmd, "listens on"),
    ?assertEqual([], release:names(?config(port, Config))).

in_the_background_it_logs_to_the_system_log(Config) ->
    system_log:available() orelse throw({skip, "no mount namespaces here (not root?)"}),
    system_log:with(fun(Log) -> logs_to(Log, ?config(port, Config)) end).

logs_to(Log, Port) ->
    Script = system_log:script(Log, "$EPMD -daemon -d"),
    ?assertEqual({0, <<>>}, release:shell(Port, Script)),
    Address = io_lib:format("portmapper listens on 127.0.0.1:~b.*", [Port]),
    is_logged(Log, notice, Address),
    {ok, Socket, _Creation} = testkit:register(Port, "n", 4711),
    is_logged(Log, debug, "127.0.0.1:\\d+ asks ALIVE2 n"),
    is_logged(Log, info, "node n is up: port 4711, .*"),
    refused = testkit:register(Port, "n", 4712),
    is_logged(Log, debug, "127.0.0.1:\\d+ asks ALIVE2 n"),
    Culprit = "by \\S+ \\(pid \\d+, user \\S+\\)",
    is_logged(Log, notice, "refused 127.0.0.1:\\d+ as n: name in use " ++ Culprit),
    %% The system log ends, and starts anew.
    ok = system_log:close_socket(Log),
    ok = file:delete(system_log:path(Log)),
    ok = system_log:open_socket(Log),
    ok = gen_tcp:close(Socket),
    is_logged(Log, info, "node n is down: .*"),
    ?assertEqual({0, <<"Killed\n">>}, release:run(Port, ["-kill"])),
    is_logged(Log, debug, "\\S+ asks KILL"),
    is_logged(Log, notice, "portmapper ends: \\S+ sent KILL"),
    release:await_end(Port).

is_logged(Log, Level, Pattern) ->
    {Found, Text} = system_log:next(Log),
    ?assertEqual(Level, Found, Text),
    ?assertMatch({match, _}, re:run(Text, ["^", Pattern, "$"]), Text).

as_first_process_it_reaps_orphans_and_ends_on_sigterm(Config) ->
    Port = ?config(port, Config),
    {Container, Init} = container(Config),
    [VM] = release:vms(Port),
    ok = testkit:wait_until(fun() -> children(Init) =:= [VM] end),
    {0, _} = testkit:run(["nsenter", "--pid", "--target", Init, "sh", "-c", "sleep 1 >/dev/null 2>&1 &"]),
    ok = testkit:wait_until(fun() -> length(children(Init)) =:= 2 end),
    ok = testkit:wait_until(fun() -> children(Init) =:= [VM] end),
    ?assertEqual([], release:names(Port)),
    {0, _} = testkit:run(["kill", "-TERM", Init]),
    ?assertMatch({0, _}, program:await_exit(Container)),
    ok = release:await_end(Port).

as_first_process_it_ends_on_kill(Config) ->
    Port = ?config(port, Config),
    {Container, _Init} = container(Config),
    ?assertEqual({0, <<"Killed\n">>}, release:run(Port, ["-kill"])),
    ?assertMatch({0, _}, program:await_exit(Container)),
    ok = release:await_end(Port).

the_background_works_in_a_container(Config) ->
    Port = ?config(port, Config),
    may_make_containers(),
    Inside = "$EPMD -daemon && $EPMD -names && $EPMD -kill",
    Script = ["unshare --pid --fork --mount-proc sh -c '", Inside, "'"],
    Expected = io_lib:format("epmd: up and running on port ~b with data:\nKilled\n", [Port]),
    ?assertEqual({0, iolist_to_binary(Expected)}, release:shell(Port, Script)),
    ok = release:await_end(Port).

%% The executable as the first process of a container, and its pid out here.
container(Config) ->
    may_make_containers(),
    Unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
    Container = start(Config, Unshare ++ [release:epmd()]),
    _ = program:await(Container, "listens on"),
    [Init] = children(os_pid(Container)),
    {Container, Init}.

may_make_containers() ->
    Unshare = ["unshare", "--pid", "--fork", "--mount-proc", "true"],
    os:find_executable("unshare") =/= false andalso element(1, testkit:run(Unshare)) =:= 0 orelse
        throw({skip, "no pid namespaces here (not root?)"}).

children(Pid) ->
    {ok, Files} = file:list_dir("/proc"),
    lists:sort([Child || [Digit | _] = Child <- Files, Digit >= $0, Digit =< $9, parent(Child) =:= Pid]).

%% That of a zombie, too.
parent(Pid) ->
    case file:read_file(["/proc/", Pid, "/stat"]) of
        {ok, Text} ->
            [_, Rest] = string:split(Text, ") ", trailing),
            [_State, Parent | _] = string:lexemes(Rest, " "),
            binary_to_list(Parent);
        {error, _} ->
            gone
    end.

serving(Config, Arguments) ->
    Epmd = start(Config, [release:epmd() | Arguments]),
    _ = program:await(Epmd, "listens on"),
    Epmd.

start(Config, Command) ->
    release:start(?config(port, Config), Command, []).

%% The exit status, and the output since it was last waited for.
ended(Program, Signal) ->
    {0, _} = testkit:run(["kill", Signal, os_pid(Program)]),
    program:await_exit(Program).

os_pid(Program) ->
    {os_pid, Pid} = erlang:port_info(Program, os_pid),
    integer_to_list(Pid).
