%% Subscribers hear of every node that comes or goes, once, whatever dies meanwhile.
-module(events_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, end_per_testcase/2]).
-export([
    a_subscriber_is_told_of_all_nodes_and_then_of_every_change/1,
    a_pattern_has_others_left_out/1,
    three_subscribers_see_the_same_while_2000_nodes_come_and_go/1,
    a_stalled_subscriber_is_told_how_much_it_missed_and_recovers/1,
    a_subscriber_that_is_slow_for_a_moment_misses_nothing/1,
    subscribers_that_end_are_forgotten/1,
    no_message_comes_after_the_end_of_a_subscription/1,
    subscribers_hear_of_the_end/1,
    subscribers_of_a_port_mapper_that_is_taken_over_hear_of_the_end/1,
    another_library_goes_on_with_all_nodes/1
]).
-export([goes_on_with_another_library/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_subscriber_is_told_of_all_nodes_and_then_of_every_change,
        a_pattern_has_others_left_out,
        three_subscribers_see_the_same_while_2000_nodes_come_and_go,
        a_stalled_subscriber_is_told_how_much_it_missed_and_recovers,
        a_subscriber_that_is_slow_for_a_moment_misses_nothing,
        subscribers_that_end_are_forgotten,
        no_message_comes_after_the_end_of_a_subscription,
        subscribers_hear_of_the_end,
        subscribers_of_a_port_mapper_that_is_taken_over_hear_of_the_end,
        another_library_goes_on_with_all_nodes
    ].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

a_subscriber_is_told_of_all_nodes_and_then_of_every_change(_Config) ->
    Port = own_vm:start(),
    {ok, Socket, Creation} = testkit:register(Port, "n1", 1001),
    {ok, Peer} = inet:sockname(Socket),
    {ok, Own} = portmapper:register("own", 1002, #{type => 72}),
    {ok, Ref} = portmapper:subscribe(),
    N1 = #{name => <<"n1">>, port => 1001, type => 77, creation => Creation, peer => Peer},
    ?assertEqual(
        {2, {nodes, [N1, #{name => <<"own">>, port => 1002, type => 72, creation => Own, peer => vm}], 0}},
        told(Ref)
    ),
    ok = gen_tcp:close(Socket),
    ?assertEqual({3, {down, #{name => <<"n1">>, creation => Creation, reason => closed}}}, told(Ref)),
    ok = portmapper:unregister("own"),
    ?assertEqual({4, {down, #{name => <<"own">>, creation => Own, reason => unregistered}}}, told(Ref)),
    {ok, _, Next} = testkit:register(Port, "n1", 1003),
    ?assertMatch({5, {up, #{name := <<"n1">>, port := 1003, creation := Next}}}, told(Ref)),
    ok = portmapper:drop("n1"),
    ?assertEqual({6, {down, #{name => <<"n1">>, creation => Next, reason => dropped}}}, told(Ref)),
    ?assertEqual(Creation + 1, Next).

a_pattern_has_others_left_out(_Config) ->
    _ = own_vm:start(),
    [{ok, _} = portmapper:register(Name, 1) || Name <- ["web1", "db1", "web2"]],
    {ok, Ref} = portmapper:subscribe("web[0-9]"),
    {3, {nodes, Nodes, 0}} = told(Ref),
    ?assertEqual([<<"web1">>, <<"web2">>], names(Nodes)),
    ok = portmapper:drop("db1"),
    ok = portmapper:drop("web1"),
    ?assertMatch({5, {down, #{name := <<"web1">>}}}, told(Ref)),
    [?assertError(badarg, portmapper:subscribe(Bad)) || Bad <- ["", [0], lists:duplicate(256, $a)]].

three_subscribers_see_the_same_while_2000_nodes_come_and_go(_Config) ->
    Port = own_vm:start(),
    Subscribers = [recorder() || _ <- [1, 2, 3]],
    Comers = [come_and_go(Port, Part) || Part <- [1, 2, 3, 4]],
    %% Whatever dies meanwhile.
    Own = [portmapper_events, portmapper_server, portmapper_sup, portmapper_events],
    Killed = kill_until_all_are_gone(Own ++ [thread], Comers, 0),
    ct:pal("~b deaths", [Killed]),
    {ok, _} = portmapper:register("last", 1),
    [First | Others] = [recorded(Subscriber) || Subscriber <- Subscribers],
    [?assertEqual(First, Other) || Other <- Others],
    ?assertEqual(lists:seq(1, 4001), [Sequence || {Sequence, _} <- First]),
    Ups = [Name || {_, {up, #{name := Name}}} <- First],
    ?assertEqual(2001, length(lists:usort(Ups))),
    ?assertEqual(2000, length([down || {_, {down, _}} <- First])),
    ?assert(Killed >= 10).

%% 500 nodes register, and go again, some at a time: after a death each.
come_and_go(Port, Part) ->
    spawn_monitor(fun() ->
        Name = fun(Number) -> "n" ++ integer_to_list(Part * 1000 + Number) end,
        [
            begin
                receive
                    go_on -> ok
                end,
                Sockets = [
                    element(2, {ok, _, _} = testkit:register(Port, Name(Number), Number))
                 || Number <- lists:seq(First, First + 49)
                ],
                [ok = gen_tcp:close(Socket) || Socket <- Sockets]
            end
         || First <- lists:seq(0, 499, 50)
        ]
    end).

kill_until_all_are_gone(_Own, [], Count) ->
    testkit:wait_until(fun() -> portmapper:count() =:= 0 end),
    Count;
kill_until_all_are_gone([thread | Own], Comers, Count) ->
    ok = portmapper_server:call(fun portmapper_nif:panic_thread/1),
    kill_until_all_are_gone(Own ++ [thread], go_on(Comers), Count + 1);
kill_until_all_are_gone([Name | Own], Comers, Count) ->
    testkit:wait_until(fun() -> is_pid(whereis(Name)) end),
    exit(whereis(Name), kill),
    kill_until_all_are_gone(Own ++ [Name], go_on(Comers), Count + 1).

go_on(Comers) ->
    [Pid ! go_on || {Pid, _} <- Comers],
    living(Comers).

living(Comers) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} ->
            ?assertEqual(normal, Reason),
            living(Comers -- [{Pid, Monitor}])
    after 20 -> Comers
    end.

%% Subscribes, and keeps what it is told, up to the node `last'.
recorder() ->
    Self = self(),
    Pid = spawn_link(fun() ->
        {ok, Ref} = portmapper:subscribe(),
        {0, {nodes, [], 0}} = told(Ref),
        Self ! {self(), subscribed},
        Self ! {self(), record(Ref, [])}
    end),
    receive
        {Pid, subscribed} -> Pid
    end.

record(Ref, Told) ->
    case told(Ref) of
        {_, {up, #{name := <<"last">>}}} = Last -> lists:reverse(Told, [Last]);
        Event -> record(Ref, [Event | Told])
    end.

recorded(Pid) ->
    receive
        {Pid, Told} -> Told
    after 20_000 -> error({not_told, process_info(Pid)})
    end.

a_stalled_subscriber_is_told_how_much_it_missed_and_recovers(_Config) ->
    _ = own_vm:start(#{subscriber_queue => 100}),
    {ok, Ref} = portmapper:subscribe(),
    {0, {nodes, [], 0}} = told(Ref),
    %% More than is kept for it.
    Count = 20_000,
    churn(Count),
    {ok, _} = portmapper:register("last", 1),
    testkit:wait_until(fun() -> queue_length() =:= 100 end),
    ?assertEqual(lists:seq(1, 100), [element(1, told(Ref)) || _ <- lists:seq(1, 100)]),
    {Sequence, {nodes, Nodes, Missed}} = told(Ref),
    ?assertEqual({Count + 1, Count + 1 - 100}, {Sequence, Missed}),
    ?assertEqual([<<"last">>], names(Nodes)),
    ok = portmapper:drop("last"),
    ?assertMatch({Next, {down, #{name := <<"last">>}}} when Next =:= Count + 2, told(Ref)).

a_subscriber_that_is_slow_for_a_moment_misses_nothing(_Config) ->
    _ = own_vm:start(#{subscriber_queue => 10}),
    {ok, Ref} = portmapper:subscribe(),
    {0, {nodes, [], 0}} = told(Ref),
    churn(1000),
    testkit:wait_until(fun() -> queue_length() =:= 10 end),
    ?assertEqual(lists:seq(1, 1000), [element(1, told(Ref)) || _ <- lists:seq(1, 1000)]).

queue_length() ->
    {message_queue_len, Length} = process_info(self(), message_queue_len),
    Length.

%% So many changes.
churn(Count) ->
    [
        begin
            {ok, _} = portmapper:register("n", 1),
            ok = portmapper:unregister("n")
        end
     || _ <- lists:seq(1, Count div 2)
    ].

subscribers_that_end_are_forgotten(_Config) ->
    _ = own_vm:start(),
    {ok, Ref} = portmapper:subscribe(),
    subscribe_and_end(20),
    testkit:wait_until(fun() -> [{Ref, self(), <<"*">>}] =:= portmapper_nif:subscriptions() end),
    %% Also if nobody sees it end.
    ok = supervisor:terminate_child(portmapper_sup, portmapper_events),
    subscribe_and_end(20),
    ?assertEqual(21, length(portmapper_nif:subscriptions())),
    {ok, _} = supervisor:restart_child(portmapper_sup, portmapper_events),
    testkit:wait_until(fun() -> length(portmapper_nif:subscriptions()) =:= 1 end),
    {0, {nodes, [], 0}} = told(Ref).

subscribe_and_end(Count) ->
    Pids = [spawn_monitor(fun() -> {ok, _} = portmapper:subscribe() end) || _ <- lists:seq(1, Count)],
    [
        receive
            {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
        end
     || {Pid, Monitor} <- Pids
    ].

no_message_comes_after_the_end_of_a_subscription(_Config) ->
    _ = own_vm:start(),
    churn(10),
    [
        begin
            {ok, Ref} = portmapper:subscribe(),
            churn(10),
            ok = portmapper:unsubscribe(Ref),
            ?assertEqual({error, not_found}, portmapper:unsubscribe(Ref)),
            churn(2)
        end
     || _ <- lists:seq(1, 50)
    ],
    testkit:wait_until(fun() -> portmapper_nif:subscriptions() =:= [] end),
    {ok, Last} = portmapper:subscribe(),
    {_, {nodes, [], 0}} = told(Last),
    ?assertEqual(0, queue_length()).

subscribers_hear_of_the_end(_Config) ->
    _ = own_vm:start(),
    {ok, Ref} = portmapper:subscribe(),
    {0, {nodes, [], 0}} = told(Ref),
    {ok, _} = portmapper:register("n", 1),
    {1, {up, _}} = told(Ref),
    ok = portmapper:stop(),
    ?assertEqual({1, stopped}, told(Ref)),
    ?assertError({not_running, portmapper}, portmapper:subscribe()).

subscribers_of_a_port_mapper_that_is_taken_over_hear_of_the_end(_Config) ->
    %% A short path, as such a socket needs it.
    Directory = string:trim(os:cmd("mktemp -d")),
    Socket = filename:join(Directory, "takeover"),
    Port = own_vm:start(#{takeover_socket => Socket}),
    {ok, Ref} = portmapper:subscribe(),
    {0, {nodes, [], 0}} = told(Ref),
    Options = #{config => #{takeover_socket => Socket, takeover => true, port => Port}},
    {VM, Port} = testkit:start_portmapper(Options),
    ?assertEqual({0, stopped}, told(Ref)),
    ok = testkit:stop(VM),
    ok = file:del_dir_r(Directory).

another_library_goes_on_with_all_nodes(Config) ->
    %% An application of our own, whose library can be replaced.
    Copy = filename:join(proplists:get_value(priv_dir, Config), "portmapper"),
    Built = filename:dirname(filename:dirname(code:which(portmapper))),
    {0, _} = testkit:run(["sh", "-c", "mkdir $1 && cp -rL $0/ebin $0/priv $1", Built, Copy]),
    Ebin = filename:join(Copy, "ebin"),
    {VM, _} = testkit:start_portmapper(#{modules => [?MODULE], args => ["-pa", Ebin]}),
    ok = testkit:call(VM, ?MODULE, goes_on_with_another_library, [Copy]),
    testkit:stop(VM).

%% In the VM of that application.
goes_on_with_another_library(Copy) ->
    ?assertEqual(filename:join(Copy, "priv"), code:priv_dir(portmapper)),
    {ok, Creation} = portmapper:register("n1", 1),
    {ok, Ref} = portmapper:subscribe("n*"),
    {1, {nodes, [_], 0}} = told(Ref),
    Before = portmapper_server:call(fun portmapper_nif:attach_teller/1),
    %% To the VM, a copy of the file is another library.
    Library = filename:join(Copy, "priv/portmapper_nif.so"),
    {ok, _} = file:copy(Library, Library ++ ".new"),
    ok = file:rename(Library ++ ".new", Library),
    _ = code:purge(portmapper_nif),
    {module, _} = code:load_file(portmapper_nif),
    portmapper_events ! portmapper,
    ?assertMatch({0, {nodes, [#{name := <<"n1">>, creation := Creation}], 0}}, told(Ref)),
    ?assertNotEqual(Before, portmapper_server:call(fun portmapper_nif:attach_teller/1)),
    ok = portmapper:drop("n1"),
    ?assertMatch({1, {down, #{name := <<"n1">>}}}, told(Ref)),
    ok = portmapper:unsubscribe(Ref).

told(Ref) ->
    receive
        {portmapper, Ref, Sequence, Event} -> {Sequence, Event}
    after 10_000 -> error({not_told, process_info(self(), messages)})
    end.

names(Nodes) ->
    [Name || #{name := Name} <- Nodes].
