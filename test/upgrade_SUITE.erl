%% New code in a VM that goes on: the library loaded anew, and another version of it.
-module(upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    instructions_for_an_upgrade_name_every_module/1,
    a_library_that_is_purged_and_loaded_anew_costs_nothing/1,
    another_file_in_the_place_of_the_library_is_another_library/1,
    an_upgrade_of_the_release_and_back_costs_nothing/1,
    an_upgrade_needs_no_higher_limit_of_open_files/1,
    an_upgrade_that_fails_costs_no_node/1,
    an_upgrade_without_its_library_costs_no_node/1
]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [
        instructions_for_an_upgrade_name_every_module,
        a_library_that_is_purged_and_loaded_anew_costs_nothing,
        another_file_in_the_place_of_the_library_is_another_library,
        an_upgrade_of_the_release_and_back_costs_nothing,
        an_upgrade_needs_no_higher_limit_of_open_files,
        an_upgrade_that_fails_costs_no_node,
        an_upgrade_without_its_library_costs_no_node
    ].

init_per_suite(Config) ->
    [{releases, hot_release:make()} | Config].

end_per_suite(Config) ->
    hot_release:remove(?config(releases, Config)).

instructions_for_an_upgrade_name_every_module(_Config) ->
    _ = application:load(portmapper),
    Ebin = filename:dirname(code:which(portmapper)),
    {ok, [{Version, Up, Down}]} = file:consult(filename:join(Ebin, "portmapper.appup")),
    ?assertEqual({ok, Version}, application:get_key(portmapper, vsn)),
    {ok, Modules} = application:get_key(portmapper, modules),
    [
        ?assertEqual(lists:sort(Modules), lists:sort([element(2, Each) || Each <- Instructions]))
     || {_From, Instructions} <- Up ++ Down
    ].

a_library_that_is_purged_and_loaded_anew_costs_nothing(_Config) ->
    {VM, Port} = testkit:start_portmapper(#{modules => [portmapper, callers]}),
    load:during(VM, Port, fun() ->
        Callers = testkit:call(VM, callers, start, [2]),
        ok = testkit:call(VM, callers, reload, [1]),
        Before = testkit:resources(VM),
        ok = testkit:call(VM, callers, reload, [100]),
        Figures = testkit:call(VM, callers, stop, [Callers]),
        ct:pal("rounds of calls and the slowest in microseconds: ~w", [Figures]),
        testkit:wait_until(fun() -> testkit:resources(VM) =:= Before end)
    end).

an_upgrade_of_the_release_and_back_costs_nothing(Config) ->
    Releases = #{versions := [Old, New]} = ?config(releases, Config),
    {VM, Port} = hot_release:start(Releases),
    load:during(VM, Port, fun() ->
        Callers = testkit:call(VM, callers, start, [2]),
        ok = there_and_back(VM, Old, New),
        Before = testkit:resources(VM),
        [ok = there_and_back(VM, Old, New) || _ <- lists:seq(2, 20)],
        Figures = testkit:call(VM, callers, stop, [Callers]),
        ct:pal("rounds of calls and the slowest in microseconds: ~w", [Figures]),
        testkit:wait_until(fun() -> testkit:resources(VM) =:= Before end)
    end).

there_and_back(VM, Old, New) ->
    ok = install(VM, New),
    install(VM, Old).

install(VM, Version) ->
    ok = hot_release:install(VM, Version),
    ?assertEqual(list_to_binary(Version), version(VM)),
    %% Nothing runs in the code of before.
    testkit:wait_until(fun() -> testkit:call(VM, code, soft_purge, [portmapper_nif]) end).

%% As after a build in the place of the one before.
another_file_in_the_place_of_the_library_is_another_library(Config) ->
    #{versions := [Old, New]} = Releases = ?config(releases, Config),
    {VM, Port} = hot_release:start(Releases),
    {ok, Socket, Creation} = testkit:register(Port, "node", 1001),
    Library = library(Releases, Old),
    ok = file:rename(Library, Library ++ ".kept"),
    {ok, _} = file:copy(library(Releases, New), Library),
    ok = testkit:call(VM, callers, reload, [1]),
    ?assertEqual(list_to_binary(New), version(VM)),
    ok = file:rename(Library ++ ".kept", Library),
    ok = testkit:call(VM, callers, reload, [1]),
    ?assertEqual(list_to_binary(Old), version(VM)),
    ?assertMatch({ok, #{creation := Creation}}, testkit:call(VM, portmapper, lookup, ["node"])),
    ?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)).

%% Both versions need descriptors for a moment.
an_upgrade_needs_no_higher_limit_of_open_files(Config) ->
    Releases = #{versions := [_, New]} = ?config(releases, Config),
    {VM, Port} = hot_release:start(Releases, #{exec => limited("-S")}),
    Nodes = [testkit:register(Port, Name, 1001) || Name <- names(200)],
    ok = install(VM, New),
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || {ok, Socket, _} <- Nodes],
    ?assertEqual("300\n", testkit:call(VM, os, cmd, ["ulimit -S -n"])).

%% `erl' with a limit that 200 nodes fit into, but not twice.
limited(Which) ->
    {"/bin/sh", ["-c", "ulimit " ++ Which ++ " -n 300; exec erl \"$@\"", "sh"]}.

an_upgrade_that_fails_costs_no_node(Config) ->
    Releases = #{versions := [_, New]} = ?config(releases, Config),
    Options = #{exec => limited(""), logger_level => critical},
    {VM, Port} = hot_release:start(Releases, Options),
    Nodes = [{Name, testkit:register(Port, Name, 1001)} || Name <- names(200)],
    ok = hot_release:install(VM, New),
    ?assertError({not_handed_over, _}, testkit:call(VM, portmapper, count, [])),
    [?assertEqual({ok, 1001}, testkit:lookup(Port, Name)) || {Name, _} <- Nodes],
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || {_, {ok, Socket, _}} <- Nodes],
    {Going, Staying} = lists:split(150, Nodes),
    [ok = gen_tcp:close(Socket) || {_, {ok, Socket, _}} <- Going],
    testkit:wait_until(fun() -> catch_call(VM, portmapper, count, []) =:= length(Staying) end),
    ?assertEqual(list_to_binary(New), version(VM)),
    [
        ?assertMatch({ok, #{creation := Creation}}, testkit:call(VM, portmapper, lookup, [Name]))
     || {Name, {ok, _, Creation}} <- Staying
    ].

an_upgrade_without_its_library_costs_no_node(Config) ->
    Releases = #{versions := [_, New]} = ?config(releases, Config),
    {VM, Port} = hot_release:start(Releases, #{logger_level => critical}),
    {ok, Socket, Creation} = testkit:register(Port, "node", 1001),
    Owner = testkit:call(VM, erlang, whereis, [portmapper_server]),
    Library = library(Releases, New),
    ok = file:rename(Library, Library ++ ".kept"),
    ok = hot_release:install(VM, New),
    ?assertError({cannot_load_library, _}, testkit:call(VM, portmapper, count, [])),
    ?assertEqual({ok, 1001}, testkit:lookup(Port, "node")),
    %% If it had ended, the server would.
    ?assertEqual(Owner, testkit:call(VM, erlang, whereis, [portmapper_server])),
    ok = file:rename(Library ++ ".kept", Library),
    ?assertEqual(list_to_binary(New), version(VM)),
    ?assertMatch({ok, #{creation := Creation}}, testkit:call(VM, portmapper, lookup, ["node"])),
    ?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)).

catch_call(VM, Module, Function, Arguments) ->
    try
        testkit:call(VM, Module, Function, Arguments)
    catch
        error:Reason -> Reason
    end.

names(Count) ->
    ["node" ++ integer_to_list(Number) || Number <- lists:seq(1, Count)].

library(#{root := Root}, Version) ->
    filename:join([Root, "lib", "portmapper-" ++ Version, "priv", "portmapper_nif.so"]).

version(VM) ->
    maps:get(version, testkit:call(VM, portmapper, info, [])).
