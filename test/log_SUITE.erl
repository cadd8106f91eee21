%% What is logged, at which level.
-module(log_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    joins_and_leaves_are_told_at_info/1,
    refusals_are_told_at_notice_with_the_peer/1,
    many_refusals_are_told_now_and_then_with_their_number/1,
    a_refusal_for_a_limit_tells_the_process/1,
    an_evicted_node_is_told_at_warning_with_its_successor/1,
    log_level_rules_over_the_primary_level/1,
    log_level_makes_the_start_visible/1,
    log_level_changes_live/1,
    log_level_none_silences/1,
    log_level_default_leaves_levels_alone/1,
    why_it_cannot_start_is_told/1,
    what_comes_too_fast_is_counted/1
]).
%% A handler of logger.
-export([log/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

init_per_testcase(_Case, Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, warning),
    [{primary_level, Level} | Config].

end_per_testcase(_Case, Config) ->
    own_vm:stop(),
    _ = logger:remove_handler(?MODULE),
    logger:set_primary_config(level, proplists:get_value(primary_level, Config)).

%% Has what is logged sent to this process.
listen() ->
    logger:add_handler(?MODULE, ?MODULE, #{config => self()}).

log(#{level := Level, meta := #{mfa := {Module, _, _}}} = Event, #{config := Pid}) ->
    Text = logger_formatter:format(Event, #{template => [msg], single_line => true}),
    Name = atom_to_list(Module),
    lists:prefix("portmapper", Name) andalso (Pid ! {logged, Level, lists:flatten(Text)});
log(_Event, _Config) ->
    ok.

next() ->
    receive
        {logged, Level, Text} -> {Level, Text}
    after 10_000 -> nothing
    end.

%% What has happened is told, and there is nothing more.
nothing_else() ->
    %% As if it had just been woken, for it may not have been yet.
    portmapper_server ! portmapper,
    _ = sys:get_state(portmapper_server),
    receive
        {logged, Level, Text} -> error({logged, Level, Text})
    after 0 -> ok
    end.

start(Config) ->
    Port = own_vm:start(Config),
    ok = listen(),
    Port.

joins_and_leaves_are_told_at_info(_Config) ->
    Port = start(#{log_level => info, relaxed_command_check => true}),
    {Node, Creation} = join(Port, "nöde"),
    Name = "node nöde is ",
    Up = [Name, "up: port 4711, creation ", Creation, ", from ", local(Node)],
    ?assertEqual({info, lists:append(Up)}, next()),
    ok = gen_tcp:close(Node),
    ?assertEqual({info, Name ++ "down: creation " ++ Creation ++ ", its connection closed"}, next()),
    Ends = [
        {fun(Socket) -> gen_tcp:send(Socket, "more") end, "it sent more than its registration"},
        {fun(_) -> testkit:request(Port, "sn") end, "a local peer sent STOP"},
        {fun(_) -> portmapper:drop("n") end, "it was dropped"}
    ],
    [
        begin
            {Socket, N} = join(Port, "n"),
            {info, "node n is up: " ++ _} = next(),
            _ = End(Socket),
            ?assertEqual({info, "node n is down: creation " ++ N ++ ", " ++ Why}, next())
        end
     || {End, Why} <- Ends
    ],
    {ok, _} = portmapper:register("vm", 1),
    ?assertMatch({info, "node vm is up: port 1, creation " ++ _}, next()),
    ok = portmapper:unregister("vm"),
    {info, Down} = next(),
    ?assertMatch({match, _}, re:run(Down, "^node vm is down: .*, this VM unregistered it$")),
    nothing_else().

join(Port, Name) ->
    {ok, Socket, Creation} =
        testkit:register(Port, unicode:characters_to_binary(Name), 4711),
    {Socket, integer_to_list(Creation)}.

local(Socket) ->
    {ok, {Ip, Port}} = inet:sockname(Socket),
    inet:ntoa(Ip) ++ ":" ++ integer_to_list(Port).

refusals_are_told_at_notice_with_the_peer(_Config) ->
    Port = start(#{log_level => notice, packet_timeout => 1}),
    {ok, _, _} = testkit:register(Port, "n", 1),
    Refused = [
        {testkit:alive2("n"), " as n: name in use by " ++ this_vm()},
        {"sn", ": not permitted"},
        {"k", ": nodes registered"},
        {"?", ": unknown request"}
    ],
    [
        ?assertEqual({notice, "refused " ++ ask(Port, Body) ++ Text}, next())
     || {Body, Text} <- Refused
    ],
    Silent = testkit:connect(Port),
    Address = local(Silent),
    ?assertEqual({notice, "closed " ++ Address ++ ": no whole request came in time"}, next()),
    nothing_else().

%% As the holder of a name.
this_vm() ->
    {0, User} = testkit:run(["id", "-un"]),
    lists:concat(["beam.smp (pid ", os:getpid(), ", user ", string:trim(binary_to_list(User)), ")"]).

many_refusals_are_told_now_and_then_with_their_number(_Config) ->
    Port = start(#{log_level => notice}),
    {ok, _, _} = testkit:register(Port, "n", 1),
    {Microseconds, _} = timer:tc(fun() -> [ask(Port, testkit:alive2("n")) || _ <- lists:seq(1, 500)] end),
    _ = [ask(Port, "?"), ask(Port, "?")],
    Texts = until_the_rest_is_told([]),
    {Refused, Others} = lists:partition(fun(Text) -> string:find(Text, "name in use") =/= nomatch end, Texts),
    ?assertMatch(["refused " ++ _, "refused " ++ _], Others),
    %% One a second after the first 20, and the one that tells of the rest.
    ?assert(length(Refused) >= 21),
    ?assert(length(Refused) =< 22 + Microseconds div 1_000_000),
    %% The holder is looked for once in 200 ms.
    Named = [Text || Text <- Refused, string:find(Text, " by " ++ this_vm()) =/= nomatch],
    ?assert(lists:member(hd(Refused), Named)),
    ?assert(length(Named) =< 2 + Microseconds div 200_000),
    %% None is lost.
    Left = lists:sum([Count || Text <- Refused, Count <- left_out(Text)]),
    ?assertEqual(500, length(Refused) - 1 + Left),
    #{counters := #{suppressed := Suppressed}} = portmapper:info(),
    ?assertEqual(Left, Suppressed),
    nothing_else().

until_the_rest_is_told(Before) ->
    {_Level, Text} = next(),
    case Text of
        [Digit | _] when Digit >= $0, Digit =< $9 -> lists:reverse(Before, [Text]);
        _ -> until_the_rest_is_told([Text | Before])
    end.

left_out(Text) ->
    case re:run(Text, "(\\d+) more lines", [{capture, all_but_first, list}]) of
        {match, [Count]} -> [list_to_integer(Count)];
        nomatch -> []
    end.

a_refusal_for_a_limit_tells_the_process(_Config) ->
    Port = start(#{log_level => notice, max_nodes_per_process => 1}),
    {ok, _, _} = testkit:register(Port, "n", 1),
    Text = ask(Port, testkit:alive2("m")) ++ " as m: too many nodes of process, it is " ++ this_vm(),
    ?assertEqual({warning, "refused " ++ Text}, next()),
    nothing_else().

an_evicted_node_is_told_at_warning_with_its_successor(_Config) ->
    Port = start(#{log_level => info}),
    {ok, Listener} = gen_tcp:listen(0, []),
    {ok, NodePort} = inet:port(Listener),
    {ok, Old, _} = testkit:register(Port, "n", NodePort),
    {info, "node n is up" ++ _} = next(),
    ok = gen_tcp:close(Listener),
    {ok, New, _} = testkit:register(Port, "n", 1),
    Evicted = ["evicted node n of ", local(Old), ", which no longer listens on port ", NodePort],
    ?assertEqual({warning, lists:concat(Evicted ++ [", for the one of ", local(New)])}, next()),
    {info, Down} = next(),
    ?assertMatch({match, _}, re:run(Down, "^node n is down: .*, it was evicted$")),
    ?assertMatch({info, "node n is up" ++ _}, next()),
    nothing_else().

%% The address that it was asked from.
ask(Port, Body) ->
    Socket = testkit:connect(Port),
    Address = local(Socket),
    ok = gen_tcp:send(Socket, [<<(iolist_size(Body)):16>>, Body]),
    _ = gen_tcp:recv(Socket, 0, 10_000),
    ok = gen_tcp:close(Socket),
    Address.

log_level_rules_over_the_primary_level(_Config) ->
    Port = start(#{}),
    _ = join(Port, "hidden"),
    _ = ask(Port, "?"),
    ok = nothing_else(),
    own_vm:stop(),
    ok = logger:remove_handler(?MODULE),
    _ = join(start(#{log_level => info}), "seen"),
    ?assertMatch({info, "node seen is up" ++ _}, next()),
    ok = portmapper:stop(),
    ?assertEqual([], logger:get_module_level([portmapper_log, portmapper])).

log_level_makes_the_start_visible(_Config) ->
    ok = listen(),
    Port = integer_to_list(own_vm:start(#{log_level => info})),
    {notice, "portmapper listens on 127.0.0.1:" ++ Rest} = next(),
    ?assert(lists:prefix(Port, Rest)).

log_level_changes_live(_Config) ->
    Port = start(#{}),
    _ = join(Port, "a"),
    ok = nothing_else(),
    ok = portmapper:reconfigure(#{log_level => info}),
    _ = join(Port, "b"),
    ?assertMatch({info, "node b is up" ++ _}, next()),
    ok = portmapper:reconfigure(#{log_level => default}),
    _ = join(Port, "c"),
    nothing_else().

log_level_none_silences(_Config) ->
    ok = logger:set_primary_config(level, all),
    Port = start(#{log_level => none}),
    _ = join(Port, "n"),
    _ = ask(Port, "?"),
    nothing_else().

log_level_default_leaves_levels_alone(_Config) ->
    ok = logger:set_module_level(portmapper_log, info),
    try
        Port = start(#{log_level => default}),
        ok = portmapper:reconfigure(#{packet_timeout => 5}),
        _ = join(Port, "n"),
        ?assertMatch({info, "node n is up" ++ _}, next()),
        ok = portmapper:stop(),
        ?assertEqual([{portmapper_log, info}], logger:get_module_level(portmapper_log))
    after
        logger:unset_module_level(portmapper_log)
    end.

why_it_cannot_start_is_told(_Config) ->
    ok = own_vm:stop(),
    ok = listen(),
    {error, _} = own_vm:try_start(#{port => 70_000}),
    Text = "portmapper: port is 70000, expected an integer from 0 to 65535",
    ?assertEqual({error, Text}, next()).

what_comes_too_fast_is_counted(_Config) ->
    _ = start(#{log_level => warning}),
    ok = sys:suspend(portmapper_server),
    [{ok, _} = portmapper:register(integer_to_list(N), N) || N <- lists:seq(1, 10_003)],
    ok = sys:resume(portmapper_server),
    ?assertEqual({warning, "3 events came too fast and were not logged"}, next()),
    nothing_else().
