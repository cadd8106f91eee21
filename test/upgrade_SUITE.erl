%% New code in a VM that goes on: the library loaded anew.
-module(upgrade_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([a_library_that_is_purged_and_loaded_anew_costs_nothing/1]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [a_library_that_is_purged_and_loaded_anew_costs_nothing].

a_library_that_is_purged_and_loaded_anew_costs_nothing(_Config) ->
    {VM, Port} = testkit:start_portmapper(#{args => ["-pa", filename:dirname(code:which(callers))]}),
    load:during(VM, Port, fun() ->
        Callers = testkit:call(VM, callers, start, [2]),
        ok = testkit:call(VM, callers, reload, [1]),
        Before = testkit:resources(VM),
        ok = testkit:call(VM, callers, reload, [100]),
        Figures = testkit:call(VM, callers, stop, [Callers]),
        ct:pal("rounds of calls and the slowest in microseconds: ~w", [Figures]),
        testkit:wait_until(fun() -> testkit:resources(VM) =:= Before end)
    end).
