%% Processes that call `portmapper' in its own VM without pause, whatever becomes of
%% its code meanwhile.
-module(callers).

-export([start/1, stop/1, reload/1]).

%% @doc Starts so many, with a name that is registered.
-spec start(pos_integer()) -> [pid()].
start(Count) ->
    {ok, _} = portmapper:register("caller", 4711),
    [spawn(fun() -> call(Number, 0, 0) end) || Number <- lists:seq(1, Count)].

%% @doc Ends them: how many rounds of calls each has made, and the microseconds of
%% the slowest. Fails if a call has failed or was answered wrongly.
-spec stop([pid()]) -> [{Rounds :: pos_integer(), Slowest :: pos_integer()}].
stop(Callers) ->
    [stop_one(Caller) || Caller <- Callers].

stop_one(Caller) ->
    Monitor = monitor(process, Caller),
    Caller ! stop,
    receive
        {'DOWN', Monitor, process, Caller, {rounds, Rounds, Slowest}} -> {Rounds, Slowest};
        {'DOWN', Monitor, process, Caller, Reason} -> error(Reason)
    end.

call(Number, Rounds, Slowest) ->
    {Microseconds, ok} = timer:tc(fun() -> make_calls(Number) end),
    receive
        stop -> exit({rounds, Rounds + 1, max(Slowest, Microseconds)})
    after 0 ->
        call(Number, Rounds + 1, max(Slowest, Microseconds))
    end.

%% Some are made in the calling scheduler, some in a dirty one, some in the server.
make_calls(Number) ->
    Own = ["own", integer_to_list(Number)],
    {ok, #{port := 4711}} = portmapper:lookup("caller"),
    {ok, #{port := 4711}} = portmapper:lookup("caller", #{holder => false}),
    {ok, _} = portmapper:register(Own, 4712),
    [{_, 4712}] = portmapper:names(Own),
    ok = portmapper:unregister(Own),
    {error, not_found} = portmapper:lookup(Own, #{holder => false}),
    true = portmapper:count() > 0,
    #{version := _} = portmapper:info(),
    ok = portmapper:reconfigure(#{packet_timeout => 60}).

%% @doc Loads the boundary anew over itself, then deletes, purges and loads it again;
%% so many times. Nobody who is in its code is killed.
-spec reload(non_neg_integer()) -> ok.
reload(0) ->
    ok;
reload(Times) ->
    ok = load(),
    true = code:delete(portmapper_nif),
    ok = purge(),
    ok = load(),
    reload(Times - 1).

load() ->
    {module, _} = code:load_file(portmapper_nif),
    purge().

purge() ->
    case code:soft_purge(portmapper_nif) of
        true -> ok;
        false -> purge()
    end.
