%% @doc How often something of a kind may happen: a number of times at once, and so
%% many times a second from then on. What is beyond that is counted.
-module(portmapper_rate).

-export([new/0, admit/4, silent/2, is_quiet/1]).
-export_type([rates/0]).

%% Milliseconds after which those that were counted are told on their own.
-define(SILENCE, 2000).

-record(bucket, {
    %% How often it may happen now; of this what remained `at' a time.
    left :: number(),
    at :: integer(),
    suppressed = 0 :: non_neg_integer(),
    %% When it was last admitted.
    admitted :: integer()
}).

-opaque rates() :: #{Kind :: term() => #bucket{}}.

-spec new() -> rates().
new() ->
    #{}.

%% @doc Whether one of this kind may happen now, in monotonic milliseconds; if so, how
%% many have not since the last that did.
-spec admit(Kind :: term(), {Burst :: pos_integer(), PerSecond :: pos_integer()}, integer(), rates()) ->
    {{yes, Suppressed :: non_neg_integer()} | no, rates()}.
admit(Kind, {Burst, PerSecond}, Now, Rates) ->
    #bucket{left = Left, at = At, suppressed = Suppressed} =
        Bucket = maps:get(Kind, Rates, #bucket{left = Burst, at = Now, admitted = Now}),
    case min(Burst, Left + (Now - At) * PerSecond / 1000) of
        Enough when Enough >= 1 ->
            New = #bucket{left = Enough - 1, at = Now, admitted = Now},
            {{yes, Suppressed}, Rates#{Kind => New}};
        _ ->
            {no, Rates#{Kind => Bucket#bucket{suppressed = Suppressed + 1}}}
    end.

%% @doc The kinds of which none has been admitted for a while, and how many have not
%% been. They are as new then.
-spec silent(Now :: integer(), rates()) -> {[{Kind :: term(), Suppressed :: pos_integer()}], rates()}.
silent(Now, Rates) ->
    IsSilent = fun(_Kind, #bucket{suppressed = Suppressed, admitted = Admitted}) ->
        Suppressed > 0 andalso Now - Admitted >= ?SILENCE
    end,
    Silent = maps:filter(IsSilent, Rates),
    Told = [{Kind, Suppressed} || {Kind, #bucket{suppressed = Suppressed}} <- maps:to_list(Silent)],
    Quiet = fun(_Kind, Bucket) -> Bucket#bucket{suppressed = 0, admitted = Now} end,
    {Told, maps:merge(Rates, maps:map(Quiet, Silent))}.

%% @doc Whether all that were counted were told.
-spec is_quiet(rates()) -> boolean().
is_quiet(Rates) ->
    lists:all(fun(#bucket{suppressed = Suppressed}) -> Suppressed =:= 0 end, maps:values(Rates)).
