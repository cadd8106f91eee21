%% @doc How long to wait until something is tried again that has failed.
-module(portmapper_backoff).

-export([time/3]).

%% @doc Milliseconds, after so many failures before this one: at random up to `First', and then
%% between half and all of twice as many each time, up to `Last'. So the first attempt comes
%% soon, and of many that wait for the same thing not all come at once.
-spec time(Failures :: non_neg_integer(), First :: pos_integer(), Last :: pos_integer()) ->
    non_neg_integer().
time(0, First, _Last) ->
    rand:uniform(First + 1) - 1;
time(Failures, First, Last) ->
    %% More doublings would make but long integers.
    Longest = min(Last, First bsl min(Failures, 30)),
    Shortest = Longest div 2,
    Shortest + rand:uniform(Longest - Shortest + 1) - 1.
