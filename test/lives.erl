%% Lives of the port mapper in one VM, from the loading of its code to the purge, and
%% what they leave behind.
-module(lives).

-export([live/1, left/0, memory/0, main/1]).

%% Lives after which everything is there that stays.
-define(WARM_UP, 20).
%% KiB by which the VM may grow in 1,000 lives.
-define(GROWTH, 1024).

%% @doc So many lives, one after the other. The port mapper is stopped before and
%% afterwards.
-spec live(non_neg_integer()) -> ok.
live(0) ->
    ok;
live(Times) ->
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
    hurt(Times rem 4),
    2 = portmapper:count(),
    ok = portmapper:stop(),
    [{error, closed} = gen_tcp:recv(Each, 0, 10_000) || Each <- [Node, Silent]],
    [ok = gen_tcp:close(Each) || Each <- [Node, Silent]],
    true = code:delete(portmapper_nif),
    testkit:wait_until(fun() -> code:soft_purge(portmapper_nif) end),
    live(Times - 1).

%% What happens in some of the lives.
hurt(1) ->
    Before = whereis(portmapper_server),
    true = exit(Before, kill),
    testkit:wait_until(fun() -> is_other(whereis(portmapper_server), Before) end);
hurt(2) ->
    ok = portmapper_nif:panic_thread(portmapper_server:server());
hurt(3) ->
    ok = callers:reload(1);
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

%% @doc `erl -run lives main TIMES [unbounded]': prints what so many lives leave
%% behind, and ends the VM, with status 1 if it is anything; of memory, only if it is
%% bounded.
-spec main([string()]) -> no_return().
main([Times | Options]) ->
    Own = [{port, 0}, {addresses, ["127.0.0.1"]}, {takeover_socket, none}],
    ok = application:load(portmapper),
    ok = application:set_env([{portmapper, Own}]),
    ok = live(?WARM_UP),
    {Before, First} = {left(), memory()},
    ok = live(list_to_integer(Times)),
    %% What a life ends with may still be on its way.
    Same = (catch testkit:wait_until(fun() -> left() =:= Before end)) =:= ok,
    {After, Last} = {left(), memory()},
    io:format("after ~ts lives, resources, descriptors, threads: ~w (before: ~w)~n",
        [Times, After, Before]),
    io:format("private memory: ~b KiB (before: ~b)~n", [Last, First]),
    Grown = Options =:= [] andalso Last - First > ?GROWTH,
    halt(case Same andalso element(1, After) =:= 0 andalso not Grown of true -> 0; false -> 1 end).
