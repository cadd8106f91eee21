%% New code in a VM that goes on: the library loaded anew, and another version of it.
-module(upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    instructions_for_an_upgrade_name_every_module/1,
    a_library_that_is_purged_and_loaded_anew_costs_nothing/1,
    an_upgrade_of_the_release_and_back_costs_nothing/1
]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [
        instructions_for_an_upgrade_name_every_module,
        a_library_that_is_purged_and_loaded_anew_costs_nothing,
        an_upgrade_of_the_release_and_back_costs_nothing
    ].

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
    Releases = #{versions := [Old, New]} = hot_release:make(?config(priv_dir, Config)),
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
    ?assertEqual(list_to_binary(Version), maps:get(version, testkit:call(VM, portmapper, info, []))),
    %% Nothing runs in the code of before.
    testkit:wait_until(fun() -> testkit:call(VM, code, soft_purge, [portmapper_nif]) end).
