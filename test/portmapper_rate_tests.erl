-module(portmapper_rate_tests).

-include_lib("eunit/include/eunit.hrl").

-define(RATE, {3, 1}).

%% What becomes of some that happen at these times.
play(Times, Rates) ->
    lists:mapfoldl(fun(Time, Before) -> portmapper_rate:admit(kind, ?RATE, Time, Before) end, Rates, Times).

a_burst_is_admitted_and_then_one_a_second_with_the_number_left_out_test() ->
    {Answers, _} = play([0, 0, 0, 0, 500, 999, 1000, 1001, 1999, 2000], portmapper_rate:new()),
    Yes = {yes, 0},
    ?assertEqual([Yes, Yes, Yes, no, no, no, {yes, 3}, no, no, {yes, 2}], Answers).

a_burst_is_admitted_again_after_a_pause_test() ->
    {_, Rates} = play([0, 0, 0], portmapper_rate:new()),
    {Answers, _} = play([60000, 60000, 60000, 60000], Rates),
    ?assertEqual([{yes, 0}, {yes, 0}, {yes, 0}, no], Answers).

kinds_do_not_take_each_other_s_place_test() ->
    {_, Rates} = play([0, 0, 0, 0], portmapper_rate:new()),
    ?assertMatch({{yes, 0}, _}, portmapper_rate:admit(other, ?RATE, 0, Rates)).

what_was_left_out_last_is_told_after_a_while_and_once_test() ->
    {_, Rates} = play([0, 0, 0, 1, 2], portmapper_rate:new()),
    ?assertNot(portmapper_rate:is_quiet(Rates)),
    ?assertMatch({[], _}, portmapper_rate:silent(1999, Rates)),
    {[{kind, 2}], Quiet} = portmapper_rate:silent(2000, Rates),
    ?assert(portmapper_rate:is_quiet(Quiet)),
    ?assertMatch({[], _}, portmapper_rate:silent(9000, Quiet)).
