%% What a life of the port mapper in a VM that goes on leaves behind. (More lives, with
%% AddressSanitizer: `make check-memory'.)
-module(lives_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([what_starts_and_stops_50_times_leaves_nothing/1]).

%% KiB; a server that stayed would be more, 50 times.
-define(GROWTH, 1024).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [what_starts_and_stops_50_times_leaves_nothing].

what_starts_and_stops_50_times_leaves_nothing(_Config) ->
    {VM, _Port} = testkit:start_portmapper(#{
        modules => [portmapper, ?MODULE],
        logger_level => critical,
        env => [{"MALLOC_ARENA_MAX", "1"}]
    }),
    ok = testkit:call(VM, portmapper, stop, []),
    ok = testkit:call(VM, lives, live, [5, purge]),
    Before = left(VM),
    ok = testkit:call(VM, lives, live, [50, purge]),
    testkit:wait_until(fun() -> left(VM) =:= Before end),
    ?assertMatch({0, _Descriptors, _Threads}, Before),
    Memory = testkit:call(VM, lives, memory, []),
    ok = testkit:call(VM, lives, live, [30, no_purge]),
    ?assert(testkit:call(VM, lives, memory, []) < Memory + ?GROWTH).

left(VM) ->
    testkit:call(VM, lives, left, []).
