%% Port mappers of other hosts are asked, whatever they are, and whatever they do.
-module(remote_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, end_per_testcase/2]).
-export([
    names_of_another_port_mapper_are_listed_by_pattern/1,
    names_of_c_epmd_are_listed_by_pattern/1,
    a_pattern_means_here_what_it_means_there/1,
    a_lying_port_mapper_costs_its_time_out_and_nothing_else/1,
    a_host_is_a_name_or_an_address/1,
    wrong_options_are_named/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        names_of_another_port_mapper_are_listed_by_pattern,
        names_of_c_epmd_are_listed_by_pattern,
        a_pattern_means_here_what_it_means_there,
        a_lying_port_mapper_costs_its_time_out_and_nothing_else,
        a_host_is_a_name_or_an_address,
        wrong_options_are_named
    ].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

names_of_another_port_mapper_are_listed_by_pattern(_Config) ->
    Port = own_vm:start(),
    Where = #{host => {127, 0, 0, 1}, port => Port},
    ?assertEqual({ok, []}, portmapper:names("*", Where)),
    [{ok, _} = portmapper:register(Name, 1) || Name <- ["web1", "db1", "web2", "wöb", "a at port 7"]],
    ?assertEqual({ok, [{<<"web2">>, 1}, {<<"web1">>, 1}]}, portmapper:names("web?", Where)),
    ?assertEqual({ok, portmapper:names("[!w]*")}, portmapper:names('[!w]*', Where)),
    ?assertEqual({ok, portmapper:names()}, portmapper:names("*", Where)),
    %% They were matched there.
    ?assertMatch(#{counters := #{listings := 4, refused := #{unknown_request := 0}}}, portmapper:info()).

names_of_c_epmd_are_listed_by_pattern(_Config) ->
    {Epmd, Port} = c_epmd:start(),
    {ok, _, _} = testkit:register(Port, "web1", 1001),
    {ok, _, _} = testkit:register(Port, "db1", 1002),
    Where = #{host => "127.0.0.1", port => Port},
    ?assertEqual({ok, [{<<"web1">>, 1001}]}, portmapper:names("w*", Where)),
    {ok, All} = portmapper:names("*", Where),
    ?assertEqual([{<<"db1">>, 1002}, {<<"web1">>, 1001}], lists:sort(All)),
    c_epmd:stop(Epmd).

%% Patterns and names of few characters, so that they match now and then.
a_pattern_means_here_what_it_means_there(_Config) ->
    own_vm:start(),
    Text = fun(Characters, Most) ->
        Length = rand:uniform(Most),
        Some = [lists:nth(rand:uniform(length(Characters)), Characters) || _ <- lists:seq(1, Length)],
        unicode:characters_to_binary(Some)
    end,
    Names = lists:usort([Text("abé[]!-", 6) || _ <- lists:seq(1, 100)]),
    [{ok, _} = portmapper:register(Name, 1) || Name <- Names],
    [
        begin
            Glob = Text("abé*?[]!-", 8),
            {ok, Compiled} = portmapper_glob:compile(Glob),
            There = lists:sort([Name || {Name, _} <- portmapper:names(Glob)]),
            Here = [Name || Name <- Names, portmapper_glob:matches(Name, Compiled)],
            ?assertEqual({Glob, There}, {Glob, Here})
        end
     || _ <- lists:seq(1, 3000)
    ].

a_lying_port_mapper_costs_its_time_out_and_nothing_else(_Config) ->
    Line = <<"name n at port 1\n">>,
    [
        begin
            {Liar, Port} = liar:start(Lie),
            Where = #{host => {127, 0, 0, 1}, port => Port, timeout => 500},
            {Time, Result} = timer:tc(portmapper, names, ["*", Where]),
            ?assertEqual({error, Expected}, Result),
            ?assert(Time < 2_000_000),
            liar:stop(Liar)
        end
     || {Expected, Lie} <- [
            {timeout, fun(_Socket) -> timer:sleep(infinity) end},
            {timeout, fun(Socket) -> liar:slowly(Socket, Line) end},
            {unanswered, fun(_Socket) -> ok end},
            {bad_reply, fun(Socket) -> gen_tcp:send(Socket, "HTTP/1.1 400 Bad Request\r\n\r\n") end},
            {bad_reply, fun(Socket) -> gen_tcp:send(Socket, <<1>>) end},
            {bad_reply, fun(Socket) -> gen_tcp:send(Socket, <<0, 0, 17, 17, "name n at port 65536\n">>) end},
            {bad_reply, fun(Socket) -> gen_tcp:send(Socket, <<0, 0, 17, 17, Line/binary, "name n at po">>) end}
        ]
    ],
    [
        ?assertEqual({Lie, {error, Expected}}, {Lie, ask_with_some_memory(Lie)})
     || {Expected, Lie} <- [
            {too_long, fun(Socket) -> liar:endlessly(Socket, binary:copy(Line, 4000)) end},
            {too_long, fun(Socket) -> liar:endlessly(Socket, binary:copy(<<"x">>, 65536)) end},
            {bad_reply, fun(Socket) -> gen_tcp:send(Socket, binary:copy(<<"\n">>, 15_000_000)) end}
        ]
    ],
    {ok, Nobody} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Nobody),
    ok = gen_tcp:close(Nobody),
    ?assertEqual({error, econnrefused}, portmapper:names("*", #{host => "127.0.0.1", port => Port})).

%% What comes of that listing, with no more memory than a long one of names takes.
ask_with_some_memory(Lie) ->
    {Liar, Port} = liar:start(fun(Socket) ->
        ok = gen_tcp:send(Socket, <<4369:32>>),
        Lie(Socket)
    end),
    Where = #{host => {127, 0, 0, 1}, port => Port, timeout => 20_000},
    Ask = fun() -> exit({asked, portmapper:names("*", Where)}) end,
    Words = 256_000_000 div erlang:system_info(wordsize),
    {_, Monitor} = spawn_opt(Ask, [monitor, {max_heap_size, #{size => Words, error_logger => false}}]),
    Result =
        receive
            {'DOWN', Monitor, process, _, {asked, Answer}} -> Answer;
            {'DOWN', Monitor, process, _, Reason} -> Reason
        end,
    liar:stop(Liar),
    Result.

a_host_is_a_name_or_an_address(_Config) ->
    Port = own_vm:start(),
    [
        ?assertEqual({Host, {ok, []}}, {Host, portmapper:names("*", #{host => Host, port => Port})})
     || Host <- [localhost, "localhost", <<"localhost">>, "127.0.0.1", {127, 0, 0, 1}]
    ],
    [{_, Port} | Others] = maps:get(addresses, portmapper:info()),
    [
        ?assertEqual({ok, []}, portmapper:names("*", #{host => Host, port => Port}))
     || Host <- ["::1", {0, 0, 0, 0, 0, 0, 0, 1}], Others =/= []
    ],
    os:putenv("ERL_EPMD_PORT", integer_to_list(Port)),
    ?assertEqual({ok, []}, portmapper:names("*", "127.0.0.1")).

wrong_options_are_named(_Config) ->
    [
        begin
            ?assertMatch({error, {bad_option, #{key := Key}}}, portmapper:names("*", Options)),
            ?assertMatch({error, {bad_option, #{key := Key}}}, portmapper_watch:start_link(Options))
        end
     || {Key, Options} <- [
            {host, #{}},
            {host, #{host => ""}},
            {port, #{host => a, port => 0}},
            {timeout, #{host => a, timeout => infinity}},
            {prot, #{host => a, prot => 1}}
        ]
    ],
    ?assertMatch({error, {bad_option, #{key := host}}}, portmapper:names("*", "")),
    ?assertMatch(
        {error, {bad_option, #{key := glob}}}, portmapper_watch:start_link(#{host => a, glob => ""})
    ),
    ?assertError(badarg, portmapper:names("", "127.0.0.1")).
