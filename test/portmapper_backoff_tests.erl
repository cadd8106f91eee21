-module(portmapper_backoff_tests).

-include_lib("eunit/include/eunit.hrl").

%% The shortest and the longest of many.
span(Failures) ->
    Times = [portmapper_backoff:time(Failures, 100, 3000) || _ <- lists:seq(1, 5000)],
    {lists:min(Times), lists:max(Times)}.

the_first_attempt_comes_soon_test() ->
    {Shortest, Longest} = span(0),
    ?assert(Shortest < 20 andalso Longest =< 100 andalso Longest > 80).

it_waits_twice_as_long_each_time_up_to_a_limit_test() ->
    [
        begin
            {Shortest, Longest} = span(Failures),
            ?assert(Shortest >= Most div 2 andalso Shortest < Most * 6 div 10),
            ?assert(Longest =< Most andalso Longest > Most * 9 div 10)
        end
     || {Failures, Most} <- [{1, 200}, {2, 400}, {3, 800}, {4, 1600}, {5, 3000}, {1_000_000, 3000}]
    ].
