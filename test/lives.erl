%% Lives of the port mapper in one VM, from the loading of its code to the purge, and
%% what they leave behind.
-module(lives).

-export([live/2, left/0, memory/0, main/1]).

%% Lives after which everything is there that stays.
-define(WARM_UP, 20).
%% KiB by which the VM may grow.
-define(GROWTH, 1024).

%% @doc So many lives, one after the other, each with a purge of the code or none: the
%% VM keeps some KiB for each module that it loads. The port mapper is stopped before
%% and afterwards.
-spec live(non_neg_integer(), purge | no_purge) -> ok.
live(0, _Purge) ->
    ok;
live(Times, Purge) ->
    ok = application:start(portmapper),
    #{addresses := [{_, Port} | _]} = portmapper:info(),
    {ok, Node, _} = testkit:register(Port, "node", 4711),
    {ok, 4711} = testkit:lookup(Port, "node"),
    {ok, #{port := 4711}} = portmapper:lookup("node"),
    [{<<"node">>, 4711}] = testkit:names(Port),
    <<>> = testkit:request(Port, "?"),
    %% One that waits, and one that the VM has itself.
    Silent = testkit:connect(Port),
    {ok, _} = portmapper:register("own", 4712),
    hurt(Times rem 3),
    Purge =:= purge andalso Times rem 5 =:= 0 andalso (ok = callers:reload(1)),
    2 = portmapper:count(),
    ok = portmapper:stop(),
    [{error, closed} = gen_tcp:recv(Each, 0, 10_000) || Each <- [Node, Silent]],
    [ok = gen_tcp:close(Each) || Each <- [Node, Silent]],
    Purge =:= purge andalso purge(),
    live(Times - 1, Purge).

purge() ->
    true = code:delete(portmapper_nif),
    testkit:wait_until(fun() -> code:soft_purge(portmapper_nif) end).

%% What happens in some of the lives.
hurt(1) ->
    Before = whereis(portmapper_server),
    true = exit(Before, kill),
    testkit:wait_until(fun() -> is_other(whereis(portmapper_server), Before) end);
hurt(2) ->
    ok = portmapper_nif:panic_thread(portmapper_server:server());
hurt(0) ->
    ok.

is_other(Process, Before) ->
    is_pid(Process) andalso Process =/= Before.

%% @doc What the VM has: terms of Rust's, descriptors, and threads.
-spec left() -> {non_neg_integer(), non_neg_integer(), non_neg_integer()}.
left() ->
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    {portmapper_nif:resources(), count("fd"), count("task")}.

count(Kind) ->
    {ok, Names} = file:list_dir("/proc/self/" ++ Kind),
    length(Names).

%% @doc The memory that no other process has, in KiB.
-spec memory() -> non_neg_integer().
memory() ->
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    ok = portmapper_nif:trim_memory(),
    Sizes = re:run(
        os:cmd("cat /proc/" ++ os:getpid() ++ "/smaps_rollup"),
        "Private_\\w+: +(\\d+) kB",
        [global, {capture, all_but_first, list}]
    ),
    {match, Found} = Sizes,
    lists:sum([list_to_integer(Size) || [Size] <- Found]).

%% @doc `erl -run lives main TIMES [leaks_only]': prints what so many lives leave behind,
%% and ends the VM, with status 1 if it is anything. Twice as many, if memory is to be
%% measured.
-spec main([string()]) -> no_return().
main([Number | Options]) ->
    Own = [{port, 0}, {addresses, ["127.0.0.1"]}, {takeover_socket, none}],
    ok = application:load(portmapper),
    ok = application:set_env([{portmapper, Own}]),
    Times = list_to_integer(Number),
    Clean = leave_nothing(Times) andalso (Options =/= [] orelse do_not_grow(Times)),
    halt(case Clean of true -> 0; false -> 1 end).

leave_nothing(Times) ->
    ok = live(?WARM_UP, purge),
    Before = left(),
    ok = live(Times, purge),
    %% What a life ends with may still be on its way.
    Same =
        try testkit:wait_until(fun() -> left() =:= Before end) of
            ok -> true
        catch
            error:{not_in_time, _} -> false
        end,
    After = left(),
    io:format("after ~b lives, resources, descriptors and threads: ~w (before: ~w)~n",
        [Times, After, Before]),
    Same andalso element(1, After) =:= 0.

do_not_grow(Times) ->
    ok = live(?WARM_UP, no_purge),
    Before = memory(),
    ok = live(Times, no_purge),
    After = memory(),
    io:format("after ~b without a purge, private memory: ~b KiB (before: ~b)~n",
        [Times, After, Before]),
    After - Before =< ?GROWTH.
