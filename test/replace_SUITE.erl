%% `epmd -replace': another EPMD ends, and its nodes come over.
-module(replace_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    nodes_of_c_epmd_come_over_and_others_are_named/1,
    nodes_come_over_from_one_to_the_next/1,
    one_that_does_not_end_is_killed_with_its_keeper/1,
    in_the_foreground_the_started_process_serves/1,
    the_foreground_names_nodes_that_do_not_come/1,
    without_nodes_c_epmd_is_asked_to_end/1,
    where_nobody_is_it_just_starts/1,
    another_program_is_left_alone/1,
    who_may_not_signal_changes_nothing/1
]).

%% Nobody, by that number everywhere.
-define(NOBODY, "65534").

suite() ->
    [{timetrap, {seconds, 90}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

nodes_of_c_epmd_come_over_and_others_are_named(Config) ->
    Port = ?config(port, Config),
    ok = start_c_epmd(Port),
    Nodes = testkit:start_nodes([a, b, c], Port),
    {ok, _Socket, _Creation} = testkit:register(Port, "raw", 4711),
    ?assertEqual(
        {1, <<"epmd: node raw at port 4711 has not registered again\n">>},
        release:run(Port, ["-replace", "-daemon"])
    ),
    ?assertMatch([<<"name a ", _/binary>>, <<"name b ", _/binary>>, <<"name c ", _/binary>>], sorted(Port)),
    is_ours(Port),
    %% Each finds the others there.
    [First | _] = Nodes,
    ?assertEqual(pong, testkit:call(First, net_adm, ping, ['c@127.0.0.1'])),
    [ok = testkit:stop(Node) || Node <- Nodes],
    ok.

nodes_come_over_from_one_to_the_next(Config) ->
    Port = ?config(port, Config),
    Old = release:daemon(Port),
    Nodes = testkit:start_nodes([a, b], Port),
    Before = sorted(Port),
    ?assertEqual({0, <<>>}, release:run(Port, ["-replace", "-daemon"])),
    ?assertEqual(Before, sorted(Port)),
    New = release:pid(Port),
    ?assertNotEqual(Old, New),
    ok = testkit:wait_until(fun() -> release:vms(Port) =:= [New] end),
    [ok = testkit:stop(Node) || Node <- Nodes],
    ok.

one_that_does_not_end_is_killed_with_its_keeper(Config) ->
    Port = ?config(port, Config),
    Old = release:daemon(Port),
    {ok, _Socket, _Creation} = testkit:register(Port, "raw", 4711),
    %% It gets the signal, and does nothing.
    {0, _} = testkit:run(["kill", "-STOP", release:keeper(Old)]),
    ?assertMatch({1, _}, release:run(Port, ["-replace", "-daemon"])),
    ?assertNotEqual(Old, release:pid(Port)),
    is_ours(Port).

in_the_foreground_the_started_process_serves(Config) ->
    Port = ?config(port, Config),
    ok = start_c_epmd(Port),
    Node = testkit:start_node(a, Port),
    Before = sorted(Port),
    %% Where the end of children is ignored, too.
    Script = "$SIG{CHLD} = 'IGNORE'; exec($ENV{EPMD}, '-replace')",
    Epmd = release:start(Port, ["perl", "-e", Script], []),
    _ = program:await(Epmd, "listens on"),
    {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
    ?assertEqual(integer_to_list(Pid), release:keeper(release:pid(Port))),
    ok = testkit:wait_until(fun() -> sorted(Port) =:= Before end),
    ok = testkit:stop(Node).

the_foreground_names_nodes_that_do_not_come(Config) ->
    Port = ?config(port, Config),
    ok = start_c_epmd(Port),
    {ok, _Socket, _Creation} = testkit:register(Port, "raw", 4711),
    Epmd = release:start(Port, [release:epmd(), "-replace"], []),
    _ = program:await(Epmd, "epmd: node raw at port 4711 has not registered again"),
    is_ours(Port).

without_nodes_c_epmd_is_asked_to_end(Config) ->
    Port = ?config(port, Config),
    ok = start_c_epmd(Port),
    %% It ends though this user may not signal it.
    Command = as_nobody(["-replace", "-daemon"]),
    ?assertEqual({0, <<>>}, testkit:run(Command, [{env, release:environment(Port)}])),
    is_ours(Port).

where_nobody_is_it_just_starts(Config) ->
    Port = ?config(port, Config),
    ?assertEqual({0, <<>>}, release:run(Port, ["-replace", "-daemon"])),
    is_ours(Port).

another_program_is_left_alone(Config) ->
    Port = ?config(port, Config),
    {ok, Listener} = gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}, {reuseaddr, true}]),
    Closing = spawn_link(fun() -> close_all(Listener) end),
    Message = io_lib:format(
        "epmd: what holds port ~b does not answer as an EPMD: it was left alone\n", [Port]
    ),
    [
        ?assertEqual({1, iolist_to_binary(Message)}, release:run(Port, Arguments))
     || Arguments <- [["-replace", "-daemon"], ["-replace"]]
    ],
    true = unlink(Closing),
    ?assertEqual({ok, Port}, inet:port(Listener)),
    ok = gen_tcp:close(Listener).

close_all(Listener) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            close_all(Listener);
        {error, closed} ->
            ok
    end.

who_may_not_signal_changes_nothing(Config) ->
    Port = ?config(port, Config),
    Pid = release:daemon(Port),
    {ok, _Socket, _Creation} = testkit:register(Port, "raw", 4711),
    Command = as_nobody(["-replace", "-daemon"]),
    {1, Message} = testkit:run(Command, [{env, release:environment(Port)}]),
    Expected = "^epmd: (cannot end .* holds port|the EPMD on port \\d+ refuses to end)",
    ?assertMatch({match, _}, re:run(Message, Expected)),
    ?assertEqual(Pid, release:pid(Port)),
    ?assertEqual([<<"name raw at port 4711">>], release:names(Port)).

%% The release has to be where that user may read it.
as_nobody(Arguments) ->
    Ids = ["--reuid=" ++ ?NOBODY, "--regid=" ++ ?NOBODY, "--clear-groups"],
    Command = ["setpriv" | Ids],
    os:find_executable("setpriv") =/= false andalso
        element(1, testkit:run(Command ++ ["test", "-x", release:epmd()])) =:= 0 orelse
        throw({skip, "no other user can be had here (not root, or the project is private)"}),
    Command ++ [release:epmd() | Arguments].

start_c_epmd(Port) ->
    C = os:find_executable("epmd"),
    {0, _} = testkit:run([C, "-daemon"], [{env, release:environment(Port)}]),
    testkit:wait_until(fun() ->
        {Status, _} = testkit:run([C, "-started"], [{env, release:environment(Port)}]),
        Status =:= 0
    end).

sorted(Port) ->
    lists:sort(release:names(Port)).

is_ours(Port) ->
    ?assertEqual([release:pid(Port)], release:vms(Port)).
