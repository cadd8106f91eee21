%% What the functions of `portmapper' tell and do.
-module(api_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    names_come_newest_first/1,
    names_match_a_glob/1,
    ten_thousand_names_are_listed_at_once/1,
    info_tells_addresses_and_uptime/1,
    info_counts_every_kind_of_request/1,
    info_counts_nodes_and_open_connections/1,
    info_counts_time_outs/1,
    registered_names_are_served_to_others/1,
    registered_names_survive_a_crash/1,
    registered_names_are_refused_to_others/1,
    register_takes_every_field/1,
    register_names_a_wrong_option/1,
    register_refuses_wrong_names/1,
    unregister_leaves_other_nodes_alone/1,
    drop_closes_the_connection_of_the_node/1,
    drop_takes_back_a_name_of_the_vm/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

init_per_testcase(_Case, Config) ->
    [{port, own_vm:start()} | Config].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

port(Config) ->
    proplists:get_value(port, Config).

%% A connection on which a name is registered.
node(Config, Name, NodePort) ->
    {ok, Socket, _} = testkit:register(port(Config), Name, NodePort),
    Socket.

names_come_newest_first(Config) ->
    ?assertEqual([], portmapper:names()),
    First = node(Config, "one", 1001),
    _ = node(Config, "two", 1002),
    {ok, _} = portmapper:register("three", 1003),
    ?assertEqual([{<<"three">>, 1003}, {<<"two">>, 1002}, {<<"one">>, 1001}], portmapper:names()),
    ok = gen_tcp:close(First),
    ok = testkit:wait_until(fun() -> portmapper:count() =:= 2 end),
    _ = node(Config, "one", 1004),
    ?assertEqual([{<<"one">>, 1004}, {<<"three">>, 1003}, {<<"two">>, 1002}], portmapper:names()).

names_match_a_glob(_Config) ->
    All = ["web1", "web22", "db", "Ünïcode", "漢字", "a*b", "😀x"],
    [{ok, _} = portmapper:register(Name, 1) || Name <- lists:reverse(All)],
    Matching = [
        {"*", All},
        {<<"web*">>, ["web1", "web22"]},
        {'web*', ["web1", "web22"]},
        {"web?", ["web1"]},
        {"web??", ["web22"]},
        {"*b", ["db", "a*b"]},
        {"?b", ["db"]},
        {"?n?code", ["Ünïcode"]},
        {"Ü*", ["Ünïcode"]},
        {<<"漢?"/utf8>>, ["漢字"]},
        {"??", ["db", "漢字", "😀x"]},
        {"", []},
        {"web", []},
        {"WEB*", []},
        {<<255, "*">>, []}
    ],
    [?assertEqual({Glob, Names}, {Glob, matching(Glob)}) || {Glob, Names} <- Matching],
    ok.

matching(Glob) ->
    [unicode:characters_to_list(Name) || {Name, 1} <- portmapper:names(Glob)].

ten_thousand_names_are_listed_at_once(Config) ->
    Expected = [{integer_to_binary(N), N} || N <- lists:seq(10_000, 1, -1)],
    [{ok, _} = portmapper:register(Name, N) || {Name, N} <- lists:reverse(Expected)],
    {Microseconds, Names} = timer:tc(portmapper, names, []),
    ?assertEqual(Expected, Names),
    ?assert(Microseconds < 500_000),
    ?assertEqual(10_000, portmapper:count()),
    Lines = [["name ", Name, " at port ", integer_to_list(N), $\n] || {Name, N} <- Expected],
    Reply = iolist_to_binary([<<(port(Config)):32>>, Lines]),
    ?assertEqual(Reply, testkit:request(port(Config), "n")).

info_tells_addresses_and_uptime(Config) ->
    #{addresses := Addresses, uptime := First} = portmapper:info(),
    ?assertEqual({{127, 0, 0, 1}, port(Config)}, hd(Addresses)),
    ok = testkit:wait_until(fun() -> maps:get(uptime, portmapper:info()) > First end).

info_counts_every_kind_of_request(Config) ->
    Port = port(Config),
    ok = counts(#{registered => 1}, fun() -> {ok, _} = portmapper:register("n", 1) end),
    Answered = [
        {"zn", #{lookups_hit => 1}},
        {"zm", #{lookups_missed => 1}},
        {"n", #{listings => 1}},
        {"d", #{listings => 1}},
        {"k", #{nodes_registered => 1}},
        {testkit:alive2("n"), #{name_in_use => 1}},
        {testkit:alive2("", 1, "e"), #{invalid_name => 1}},
        {testkit:alive2(lists:duplicate(256, $n)), #{name_too_long => 1}},
        {testkit:alive2("m", 1, binary:copy(<<0>>, 1021)), #{extra_too_long => 1}}
    ],
    Unanswered = [
        {"z", #{invalid_name => 1}},
        {"sn", #{not_permitted => 1}},
        {"?", #{unknown_request => 1}},
        {"x", #{malformed => 1}},
        {binary:copy(<<"z">>, 4000), #{invalid_length => 1}}
    ],
    [
        ok = counts(Counts#{accepted => 1, Outcome => 1}, fun() -> testkit:request(Port, Body) end)
     || {Outcome, Requests} <- [{answered, Answered}, {unanswered, Unanswered}],
        {Body, Counts} <- Requests
    ],
    Ended = [
        {<<1:16, "nn">>, #{unanswered => 1, surplus_data => 1}},
        {<<9:16, "n">>, #{unanswered => 1, incomplete => 1}},
        {<<>>, #{silent => 1}}
    ],
    [
        ok = counts(Counts#{accepted => 1}, fun() -> send_and_close(Port, Bytes) end)
     || {Bytes, Counts} <- Ended
    ],
    Joined = #{accepted => 1, answered => 1, registered => 1, unregistered => 1},
    ok = counts(Joined, fun() -> gen_tcp:close(node(Config, "m", 2)) end),
    ok = counts(#{unregistered => 1}, fun() -> ok = portmapper:unregister("n") end).

%% The fun adds exactly this to the counters.
counts(Expected, Fun) ->
    Before = counters(),
    _ = Fun(),
    Added = fun() ->
        maps:filter(
            fun(_Name, Count) -> Count =/= 0 end,
            maps:map(fun(Name, Count) -> Count - map_get(Name, Before) end, counters())
        )
    end,
    try
        testkit:wait_until(fun() -> Added() =:= Expected end, 5_000)
    catch
        error:{not_in_time, _} -> error({counted, Added(), expected, Expected})
    end.

counters() ->
    #{counters := Counters} = portmapper:info(),
    {Refused, Rest} = maps:take(refused, Counters),
    %% Those that are counted by reason, too, or whenever anything is told.
    Others = [ended, denied, notices, notices_taken],
    maps:merge(Refused, maps:without(Others, Rest)).

send_and_close(Port, Bytes) ->
    Socket = testkit:connect(Port),
    ok = gen_tcp:send(Socket, Bytes),
    ok = gen_tcp:shutdown(Socket, write),
    {error, closed} = gen_tcp:recv(Socket, 0, 10_000),
    gen_tcp:close(Socket).

info_counts_nodes_and_open_connections(Config) ->
    Node = node(Config, "n", 1),
    {ok, _} = portmapper:register("vm", 1),
    Silent = testkit:connect(port(Config)),
    Slow = testkit:connect(port(Config)),
    ok = gen_tcp:send(Slow, <<5:16, $z>>),
    ok = open(2, 3),
    ok = gen_tcp:close(Node),
    ok = open(1, 2),
    ok = gen_tcp:close(Silent),
    ok = gen_tcp:close(Slow),
    ok = open(1, 0).

open(Nodes, Connections) ->
    testkit:wait_until(fun() ->
        #{nodes := N, open_connections := C} = portmapper:info(),
        {N, C} =:= {Nodes, Connections}
    end).

info_counts_time_outs(Config) ->
    ok = portmapper:reconfigure(#{packet_timeout => 1}),
    Joined = #{accepted => 1, answered => 1, registered => 1},
    ok = counts(Joined, fun() -> node(Config, "stays", 1) end),
    ok = counts(#{accepted => 1, timed_out => 1}, fun() ->
        {error, closed} = gen_tcp:recv(testkit:connect(port(Config)), 0, 10_000)
    end),
    ok = open(1, 1).

registered_names_are_served_to_others(Config) ->
    {ok, Creation} = portmapper:register("gäteway", 8080),
    Name = <<"gäteway"/utf8>>,
    Length = byte_size(Name),
    ?assertEqual(
        <<$w, 0, 8080:16, 77, 0, 6:16, 5:16, Length:16, Name/binary, 0:16>>,
        testkit:request(port(Config), [$z, Name])
    ),
    ?assertEqual(
        <<(port(Config)):32, "name ", Name/binary, " at port 8080\n">>,
        testkit:request(port(Config), "n")
    ),
    ?assertMatch({ok, #{creation := Creation, peer := vm}}, portmapper:lookup(Name)),
    ok = portmapper:unregister("gäteway"),
    ?assertEqual(<<$w, 1>>, testkit:request(port(Config), [$z, Name])),
    ?assertEqual({ok, Creation + 1}, portmapper:register(Name, 8080)).

registered_names_survive_a_crash(Config) ->
    {ok, Creation} = portmapper:register("n", 1),
    Pid = whereis(portmapper_server),
    exit(Pid, kill),
    ?assertEqual({ok, 1}, testkit:lookup(port(Config), "n")),
    ok = testkit:wait_until(fun() ->
        not lists:member(whereis(portmapper_server), [undefined, Pid])
    end),
    ?assertMatch({ok, #{creation := Creation}}, portmapper:lookup("n")),
    ?assertEqual(ok, portmapper:unregister("n")).

registered_names_are_refused_to_others(Config) ->
    {ok, _} = portmapper:register("vm", 1),
    ?assertEqual({error, name_in_use}, portmapper:register("vm", 2)),
    ?assertEqual(refused, testkit:register(port(Config), "vm", 3)),
    _ = node(Config, "node", 4),
    ?assertEqual({error, name_in_use}, portmapper:register("node", 5)),
    ?assertEqual([{<<"node">>, 4}, {<<"vm">>, 1}], portmapper:names()).

register_takes_every_field(_Config) ->
    Options = #{
        type => 72,
        protocol => 255,
        highest_version => 65535,
        lowest_version => 0,
        extra => binary:copy(<<7>>, 1020)
    },
    {ok, _} = portmapper:register(atom, 0, Options),
    {ok, Node} = portmapper:lookup("atom"),
    ?assertEqual(Options#{port => 0}, maps:with([port | maps:keys(Options)], Node)),
    Long = lists:duplicate(255, $漢),
    {ok, _} = portmapper:register(Long, 65535),
    ?assertMatch({ok, #{port := 65535}}, portmapper:lookup(Long)).

register_names_a_wrong_option(_Config) ->
    Keys = <<"one of type, protocol, highest_version, lowest_version, extra">>,
    Wrong = [
        {1, #{type => 256}, type, 256, <<"an integer from 0 to 255">>},
        {1, #{protocol => -1}, protocol, -1, <<"an integer from 0 to 255">>},
        {1, #{highest_version => 65536}, highest_version, 65536, <<"an integer from 0 to 65535">>},
        {1, #{lowest_version => five}, lowest_version, five, <<"an integer from 0 to 65535">>},
        {1, #{extra => "text"}, extra, "text", <<"a binary">>},
        {1, #{extra => <<1:1>>}, extra, <<1:1>>, <<"a binary">>},
        {1, #{typ => 77}, typ, 77, Keys},
        {1, #{port => 2}, port, 2, Keys},
        {65536, #{}, port, 65536, <<"an integer from 0 to 65535">>},
        {"1", #{}, port, "1", <<"an integer from 0 to 65535">>}
    ],
    [
        ?assertEqual(
            {error, {bad_option, #{key => Key, value => Value, expected => Expected}}},
            portmapper:register("n", Port, Options)
        )
     || {Port, Options, Key, Value, Expected} <- Wrong
    ],
    ?assertEqual(0, portmapper:count()).

register_refuses_wrong_names(_Config) ->
    Wrong = [
        {invalid_name, ["", '', <<>>, <<0>>, "a\0b", <<255>>, <<"n", 16#c3>>]},
        {name_too_long, [lists:duplicate(256, $n), lists:duplicate(256, $漢)]}
    ],
    [
        ?assertEqual({Name, {error, Error}}, {Name, portmapper:register(Name, 1)})
     || {Error, Names} <- Wrong, Name <- Names
    ],
    Extra = binary:copy(<<0>>, 1021),
    ?assertEqual({error, extra_too_long}, portmapper:register("n", 1, #{extra => Extra})),
    ?assertEqual(0, portmapper:count()).

unregister_leaves_other_nodes_alone(Config) ->
    Socket = node(Config, "node", 1),
    ?assertEqual({error, not_found}, portmapper:unregister("node")),
    ?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 50)),
    ?assertMatch({ok, #{port := 1}}, portmapper:lookup("node")).

drop_closes_the_connection_of_the_node(Config) ->
    Dropped = node(Config, "dropped", 1),
    Stays = node(Config, "stays", 2),
    ok = portmapper:drop(dropped),
    ?assertEqual({error, closed}, gen_tcp:recv(Dropped, 0, 10_000)),
    ?assertEqual([{<<"stays">>, 2}], portmapper:names()),
    ?assertEqual({error, not_found}, portmapper:drop(dropped)),
    ?assertEqual({error, timeout}, gen_tcp:recv(Stays, 0, 50)),
    _ = node(Config, "dropped", 3).

drop_takes_back_a_name_of_the_vm(_Config) ->
    {ok, _} = portmapper:register("vm", 1),
    ?assertEqual(ok, portmapper:drop("vm")),
    ?assertEqual([], portmapper:names()).
