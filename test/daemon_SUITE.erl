%% `epmd -daemon': what is there when it returns, and what is not.
-module(daemon_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    it_returns_silently_with_the_port_answering/1,
    two_hundred_clients_during_the_start_are_answered/1,
    it_is_detached_from_whoever_started_it/1,
    no_descriptor_of_the_starter_stays_open/1,
    a_command_substitution_ends/1,
    a_second_one_leaves_the_first_alone/1,
    of_ten_at_once_one_serves/1,
    a_port_of_another_program_is_told_with_its_holder/1,
    closed_standard_streams_do_no_harm/1,
    a_deleted_working_directory_does_no_harm/1,
    system_of_perl_leaves_no_zombie/1,
    an_ignored_end_of_children_does_no_harm/1,
    kill_ends_every_process/1,
    nothing_is_left_after_kill_9_of_vm_and_keeper/1,
    it_starts_again_the_moment_the_last_one_was_ended/1,
    it_starts_while_old_connections_linger/1
]).

suite() ->
    [{timetrap, {seconds, 60}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

it_returns_silently_with_the_port_answering(Config) ->
    Port = ?config(port, Config),
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon"])),
    ?assertEqual([], release:names(Port)),
    {ok, _Socket, _Creation} = testkit:register(Port, "n", 4711),
    ?assertEqual([<<"name n at port 4711">>], release:names(Port)).

two_hundred_clients_during_the_start_are_answered(Config) ->
    Port = ?config(port, Config),
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon"])),
    %% All of them are there before the VM is.
    Sockets = [testkit:connect(Port) || _ <- lists:seq(1, 200)],
    [ok = gen_tcp:send(Socket, <<1:16, "n">>) || Socket <- Sockets],
    [?assertEqual(<<Port:32>>, testkit:receive_all(Socket)) || Socket <- Sockets],
    [ok = gen_tcp:close(Socket) || Socket <- Sockets].

it_is_detached_from_whoever_started_it(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    ?assertEqual({ok, "/"}, file:read_link(["/proc/", Pid, "/cwd"])),
    [
        ?assertEqual({ok, "/dev/null"}, file:read_link(["/proc/", Pid, "/fd/", Number]))
     || Number <- ["0", "1", "2"]
    ],
    #{session := Session, parent := Parent} = stat(Pid),
    #{session := Mine} = stat(os:getpid()),
    ?assertNotEqual(Mine, Session),
    ?assertNotEqual(Pid, Session),
    ?assertNotEqual(os:getpid(), Parent),
    {0, _} = testkit:run(["kill", "-HUP", Pid]),
    ?assertEqual([], release:names(Port)),
    ?assertEqual(Pid, release:pid(Port)).

%% What is told behind the name of the program: state, parent, group, session.
stat(Pid) ->
    {ok, Text} = file:read_file(["/proc/", Pid, "/stat"]),
    [_, Rest] = string:split(Text, ") ", trailing),
    [_State, Parent, _Group, Session | _] = string:lexemes(Rest, " "),
    #{parent => binary_to_list(Parent), session => binary_to_list(Session)}.

no_descriptor_of_the_starter_stays_open(Config) ->
    Port = ?config(port, Config),
    File = filename:join(?config(priv_dir, Config), "open"),
    Script = ["exec 3>>", File, " 4>>", File, " 7>>", File, " 9>>", File, "; $EPMD -daemon"],
    ?assertEqual({0, <<>>}, release:shell(Port, Script)),
    Targets = [Target || Pid <- release:processes(Port), Target <- descriptors(Pid)],
    ?assert(length(Targets) > 3),
    ?assertEqual([], [Target || Target <- Targets, Target =:= File]),
    ?assertEqual([], release:names(Port)).

descriptors(Pid) ->
    Directory = "/proc/" ++ Pid ++ "/fd",
    {ok, Numbers} = file:list_dir(Directory),
    [Target || Number <- Numbers, {ok, Target} <- [file:read_link(filename:join(Directory, Number))]].

a_command_substitution_ends(Config) ->
    Port = ?config(port, Config),
    %% The shell waits until nobody has the pipe, by whatever number.
    Script = "out=$(timeout 20 $EPMD -daemon 2>&1 9>&1); echo \"$? <$out>\"",
    ?assertEqual({0, <<"0 <>\n">>}, release:shell(Port, Script)),
    ?assertEqual([], release:names(Port)).

a_second_one_leaves_the_first_alone(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {ok, _Socket, _Creation} = testkit:register(Port, "n", 4711),
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon"])),
    ?assertEqual({0, <<>>}, release:run(Port, [])),
    ?assertEqual([<<"name n at port 4711">>], release:names(Port)),
    ?assertEqual(Pid, release:pid(Port)),
    ?assertEqual([Pid], release:vms(Port)).

of_ten_at_once_one_serves(Config) ->
    Port = ?config(port, Config),
    Script = "for i in 1 2 3 4 5 6 7 8 9 10; do ($EPMD -daemon; echo $?) & done; wait",
    ?assertEqual({0, binary:copy(<<"0\n">>, 10)}, release:shell(Port, Script)),
    Pid = release:pid(Port),
    testkit:wait_until(fun() -> release:vms(Port) =:= [Pid] end).

a_port_of_another_program_is_told_with_its_holder(Config) ->
    Port = ?config(port, Config),
    Expected = iolist_to_binary(
        io_lib:format(
            "epmd: cannot listen on 127.0.0.1:~b: the port is in use by beam.smp (pid ~s), which "
            "does not answer as an EPMD\n",
            [Port, os:getpid()]
        )
    ),
    {ok, Listener} = gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}, {reuseaddr, true}]),
    %% Connections wait there, and nobody says anything.
    ?assertEqual({1, Expected}, release:run(Port, ["-daemon"])),
    Closing = spawn_link(fun() -> close_all(Listener) end),
    ?assertEqual({1, Expected}, release:run(Port, ["-daemon"])),
    ?assertEqual({1, Expected}, release:run(Port, [])),
    true = unlink(Closing),
    ok = gen_tcp:close(Listener).

close_all(Listener) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            close_all(Listener);
        {error, closed} ->
            ok
    end.

closed_standard_streams_do_no_harm(Config) ->
    Port = ?config(port, Config),
    ?assertEqual({0, <<>>}, release:shell(Port, "$EPMD -daemon <&- >&- 2>&-")),
    ?assertEqual([], release:names(Port)).

a_deleted_working_directory_does_no_harm(Config) ->
    Port = ?config(port, Config),
    Script = "d=$(mktemp -d); cd $d; rmdir $d; $EPMD -daemon",
    ?assertEqual({0, <<>>}, release:shell(Port, Script)),
    ?assertEqual([], release:names(Port)).

system_of_perl_leaves_no_zombie(Config) ->
    Port = ?config(port, Config),
    %% A process that lives on would see its zombies: it has no child at all.
    Script = "system($ENV{EPMD}, '-daemon') == 0 or die; sleep 1; print wait()",
    {0, <<"-1">>} = testkit:run(["perl", "-e", Script], [{env, release:environment(Port)}]),
    ?assertEqual([], release:names(Port)).

an_ignored_end_of_children_does_no_harm(Config) ->
    Port = ?config(port, Config),
    Script = "$SIG{CHLD} = 'IGNORE'; exec($ENV{EPMD}, '-daemon')",
    {0, <<>>} = testkit:run(["perl", "-e", Script], [{env, release:environment(Port)}]),
    ?assertEqual([], release:names(Port)).

kill_ends_every_process(Config) ->
    Port = ?config(port, Config),
    _ = release:daemon(Port),
    ?assertEqual({0, <<"Killed\n">>}, release:run(Port, ["-kill"])),
    ok = release:await_end(Port),
    ?assertEqual({1, <<>>}, release:run(Port, ["-started"])).

nothing_is_left_after_kill_9_of_vm_and_keeper(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {ok, Socket, _Creation} = testkit:register(Port, "n", 4711),
    ok = kill_all(Pid),
    ?assertEqual(<<>>, testkit:receive_all(Socket)),
    ok = release:await_end(Port).

%% The keeper first, or it would start another VM.
kill_all(Pid) ->
    {0, _} = testkit:run(["kill", "-9", release:keeper(Pid), Pid]),
    ok.

%% What has just been told to end may keep the port for a moment.
it_starts_again_the_moment_the_last_one_was_ended(Config) ->
    Port = ?config(port, Config),
    Ends = [
        "kill -9 $keeper $pid", "kill -9 $keeper $pid", "kill $pid; sleep 0.01",
        "kill $keeper; sleep 0.01", "$EPMD -kill >/dev/null"
    ],
    [
        begin
            Pid = release:daemon(Port),
            Pids = ["pid=", Pid, "; keeper=", release:keeper(Pid), "; "],
            ?assertEqual({0, <<>>}, release:shell(Port, [Pids, End, "; $EPMD -daemon"])),
            ?assertNotEqual(Pid, release:pid(Port))
        end
     || End <- lists:append(lists:duplicate(3, Ends))
    ].

it_starts_while_old_connections_linger(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    %% The side that closes first has the connection linger: with a request,
    %% that is the port mapper.
    [?assertEqual(<<Port:32>>, testkit:request(Port, "n")) || _ <- lists:seq(1, 20)],
    ok = kill_all(Pid),
    ok = testkit:wait_until(fun() -> release:processes(Port) =:= [] end),
    {ok, Connections} = file:read_file("/proc/net/tcp"),
    Lingering = io_lib:format("0100007F:~4.16.0B \\S+ 06", [Port]),
    ?assertMatch({match, _}, re:run(Connections, Lingering)),
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon"])),
    ?assertEqual([], release:names(Port)).
