%% `epmd -takeover': the next one serves with everything that the one before had.
-module(takeover_daemon_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    one_after_the_other_takes_over_and_nobody_notices/1,
    the_foreground_takes_over_and_is_taken_over_from/1,
    the_keeper_of_the_next_one_keeps_what_it_took_over/1,
    a_vm_that_is_killed_meanwhile_costs_nothing/1,
    where_nobody_is_there_is_nothing_to_take_over/1,
    another_epmd_is_left_alone/1,
    another_user_is_refused/1
]).

%% Nobody, by that number everywhere.
-define(NOBODY, "65534").

suite() ->
    [{timetrap, {seconds, 90}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

one_after_the_other_takes_over_and_nobody_notices(Config) ->
    Port = ?config(port, Config),
    First = release:daemon(Port),
    Nodes = testkit:start_nodes([a, b], Port),
    Held = register_many(Port, 200),
    Before = {release:names(Port), creations(Port)},
    Client = spawn_link(fun() -> look_up(Port, 0) end),
    Last = lists:foldl(
        fun(_, Pid) ->
            ?assertEqual({0, <<>>}, release:run(Port, ["-daemon", "-takeover"])),
            %% It serves when the command is back.
            Next = release:pid(Port),
            ?assertNotEqual(Pid, Next),
            ok = testkit:wait_until(fun() -> release:vms(Port) =:= [Next] end),
            Next
        end,
        First,
        lists:seq(1, 5)
    ),
    Client ! {stop, self()},
    receive
        {Client, Slowest} -> ct:pal("the slowest look-up took ~w ms", [Slowest div 1000])
    end,
    ?assertEqual(Before, {release:names(Port), creations(Port)}),
    assert_held(Held),
    ?assertEqual(pong, testkit:call(hd(Nodes), net_adm, ping, ['b@127.0.0.1'])),
    %% The keepers before have ended, too.
    ok = testkit:wait_until(fun() -> length(keepers(Port)) =:= 1 end),
    [ok = testkit:stop(Node) || Node <- Nodes],
    {0, _} = testkit:run(["kill", Last]),
    release:await_end(Port).

the_foreground_takes_over_and_is_taken_over_from(Config) ->
    Port = ?config(port, Config),
    _ = release:daemon(Port),
    Held = register_many(Port, 10),
    Foreground = release:start(Port, [release:epmd(), "-takeover"], []),
    _ = program:await(Foreground, "listens on"),
    assert_held(Held),
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon", "-takeover"])),
    {0, Output} = program:await_exit(Foreground),
    ?assertMatch({match, _}, re:run(Output, "portmapper ends: process \\d+ has taken over")),
    assert_held(Held),
    ?assertEqual(10, length(release:names(Port))).

the_keeper_of_the_next_one_keeps_what_it_took_over(Config) ->
    Port = ?config(port, Config),
    _ = release:daemon(Port),
    Held = register_many(Port, 100),
    Before = creations(Port),
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon", "-takeover"])),
    kill_and_await_next(Port),
    assert_held(Held),
    ?assertEqual(Before, creations(Port)),
    %% It goes on as any other.
    ?assertEqual({0, <<>>}, release:run(Port, ["-daemon", "-takeover"])),
    kill_and_await_next(Port),
    assert_held(Held),
    ?assertEqual(Before, creations(Port)).

%% Either it is started again by its keeper, or the next one has everything.
a_vm_that_is_killed_meanwhile_costs_nothing(Config) ->
    Port = ?config(port, Config),
    _ = release:daemon(Port),
    Held = register_many(Port, 500),
    Before = creations(Port),
    Arguments = ["-daemon", "-takeover"],
    {Whole, {0, <<>>}} = timer:tc(release, run, [Port, Arguments]),
    Outcomes = [
        begin
            Pid = release:pid(Port),
            TakingOver = release:start(Port, [release:epmd() | Arguments], []),
            timer:sleep(max(0, Whole div 1000 - Earlier)),
            %% It may have ended.
            _ = testkit:run(["kill", "-9", Pid]),
            {Status, _} = program:await_exit(TakingOver),
            ok = testkit:wait_until(fun() -> length(release:vms(Port)) =:= 1 end),
            assert_held(Held),
            ?assertEqual(Before, creations(Port)),
            Status
        end
     || Earlier <- [Whole div 1000, 130, 90, 60, 40, 20, 0, -20, -40, -60, -90, -150]
    ],
    ct:pal("takeovers end with ~w", [Outcomes]),
    ok = testkit:wait_until(fun() -> length(keepers(Port)) =:= 1 end).

where_nobody_is_there_is_nothing_to_take_over(Config) ->
    Port = ?config(port, Config),
    Message = io_lib:format(
        "epmd: no EPMD serves port ~b: there is nothing to take over~n", [Port]
    ),
    [
        ?assertEqual({1, iolist_to_binary(Message)}, release:run(Port, Arguments))
     || Arguments <- [["-takeover"], ["-takeover", "-daemon"]]
    ],
    release:await_end(Port).

another_epmd_is_left_alone(Config) ->
    Port = ?config(port, Config),
    C = os:find_executable("epmd"),
    {0, _} = testkit:run([C, "-daemon"], [{env, release:environment(Port)}]),
    {1, Message} = release:run(Port, ["-daemon", "-takeover"]),
    Expected = io_lib:format("^epmd: the EPMD on port ~b is none of this kind", [Port]),
    ?assertMatch({match, _}, re:run(Message, Expected)),
    {0, _} = testkit:run([C, "-names"], [{env, release:environment(Port)}]).

another_user_is_refused(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    Ids = ["--reuid=" ++ ?NOBODY, "--regid=" ++ ?NOBODY, "--clear-groups"],
    Command = ["setpriv" | Ids],
    os:find_executable("setpriv") =/= false andalso
        element(1, testkit:run(Command ++ ["test", "-x", release:epmd()])) =:= 0 orelse
        throw({skip, "no other user can be had here (not root, or the project is private)"}),
    {1, Message} = testkit:run(
        Command ++ [release:epmd(), "-daemon", "-takeover"], [{env, release:environment(Port)}]
    ),
    ?assertMatch({match, _}, re:run(Message, "^epmd: cannot take over: not permitted")),
    ?assertEqual(Pid, release:pid(Port)).

register_many(Port, Count) ->
    [
        begin
            {ok, Socket, _} = testkit:register(Port, "node" ++ integer_to_list(I), 1000 + I),
            Socket
        end
     || I <- lists:seq(1, Count)
    ].

assert_held(Sockets) ->
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || Socket <- Sockets].

%% Of some nodes, as the port mapper tells them.
creations(Port) ->
    [
        begin
            {0, Facts} = release:run(Port, ["-lookup", Name]),
            re:run(Facts, "^creation \\d+$", [multiline, {capture, first, list}])
        end
     || Name <- ["node1", "node7", "node10"]
    ].

%% Looks a name up until it is told to stop.
look_up(Port, Slowest) ->
    {Microseconds, Answer} = timer:tc(testkit, lookup, [Port, "node7"]),
    ?assertEqual({ok, 1007}, Answer),
    receive
        {stop, From} -> From ! {self(), max(Slowest, Microseconds)}
    after 0 -> look_up(Port, max(Slowest, Microseconds))
    end.

kill_and_await_next(Port) ->
    Pid = release:pid(Port),
    {0, _} = testkit:run(["kill", "-9", Pid]),
    ok = testkit:wait_until(fun() ->
        case release:vms(Port) of
            [Next] -> Next =/= Pid;
            _ -> false
        end
    end).

%% The pids of what was started for a port and is the executable itself.
keepers(Port) ->
    {0, Path} = testkit:run(["realpath", release:epmd()]),
    Own = unicode:characters_to_list(string:trim(Path)),
    [Pid || Pid <- release:processes(Port), {ok, Own} =:= file:read_link(["/proc/", Pid, "/exe"])].
