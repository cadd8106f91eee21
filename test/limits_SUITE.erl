%% The limit of open files: reaching it costs no node its registration, and the
%% VM goes on.
-module(limits_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    idle_connections_beyond_the_limit_do_no_harm/1,
    nodes_beyond_the_limit_wait/1,
    the_limit_is_raised_only_on_request/1,
    a_raised_limit_leaves_the_vm_what_it_can_use/1
]).
-export([hold_idle/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        idle_connections_beyond_the_limit_do_no_harm,
        nodes_beyond_the_limit_wait,
        the_limit_is_raised_only_on_request,
        a_raised_limit_leaves_the_vm_what_it_can_use
    ].

idle_connections_beyond_the_limit_do_no_harm(Config) ->
    {VM, Port} = start_limited("ulimit -n 1024", #{}),
    Log = log_to_file(VM, Config),
    [First, Second] = testkit:start_nodes([first, second], Port),
    Processes = processes(VM),
    {ok, Registered} = testkit:call(VM, portmapper, lookup, [first]),

    %% Half of them each: their own limit may be the usual one too.
    Idle = [idle_connections(Port, 510) || _ <- [1, 2]],
    testkit:wait_until(fun() -> counter(VM, crowded_out) > 20 end),
    assert_vm_is_well(VM),
    ?assertEqual(Processes, processes(VM)),
    ?assertEqual({ok, Registered}, testkit:call(VM, portmapper, lookup, [first])),
    ?assertMatch([_, _], testkit:call(VM, portmapper, names, [])),
    Newcomer = testkit:start_node(newcomer, Port),
    Nodes = ['first@127.0.0.1', 'second@127.0.0.1', 'newcomer@127.0.0.1'],
    Pings = fun(Node) -> testkit:call(Node, lists, map, [fun net_adm:ping/1, Nodes]) end,
    [?assertEqual([pong, pong, pong], Pings(Node)) || Node <- [First, Second, Newcomer]],
    ?assertEqual({ok, Registered}, testkit:call(VM, portmapper, lookup, [first])),
    ?assertEqual(0, counter(VM, out_of_descriptors)),
    testkit:wait_until(fun() -> count(Log, <<"there are too many connections">>) > 0 end),
    [ok = testkit:stop(Each) || Each <- Idle].

nodes_beyond_the_limit_wait(Config) ->
    {VM, Port} = start_limited("ulimit -n 256", #{}),
    Log = log_to_file(VM, Config),
    Held = register_until_none_is_left(VM, Port, []),
    %% Long enough for it to have tried more often than it has descriptors left.
    Waiting = [testkit:connect(Port) || _ <- lists:seq(1, 40)],
    testkit:wait_until(fun() -> counter(VM, out_of_descriptors) > 20 end),
    assert_vm_is_well(VM),
    ?assertEqual(length(Held), testkit:call(VM, portmapper, count, [])),
    ?assertEqual({1, 0}, logged(Log)),
    [ok = gen_tcp:close(Socket) || Socket <- Waiting ++ Held],
    {ok, _, _} = testkit:register(Port, "newcomer", 1001),
    testkit:wait_until(fun() -> logged(Log) =:= {1, 1} end).

register_until_none_is_left(VM, Port, Held) ->
    Socket = testkit:connect(Port),
    Request = testkit:alive2("node" ++ integer_to_list(length(Held))),
    ok = gen_tcp:send(Socket, [<<(iolist_size(Request)):16>>, Request]),
    case gen_tcp:recv(Socket, 6, 500) of
        {ok, <<$v, 0, _:32>>} ->
            register_until_none_is_left(VM, Port, [Socket | Held]);
        {error, timeout} ->
            ok = gen_tcp:close(Socket),
            true = counter(VM, out_of_descriptors) > 0,
            Held
    end.

the_limit_is_raised_only_on_request(_Config) ->
    Limits = "ulimit -Sn 256; ulimit -Hn 512",
    {Kept, _} = start_limited(Limits, #{}),
    ?assertEqual(["256", "512"], limits(Kept)),
    {Raised, _} = start_limited(Limits, #{raise_file_limit => true}),
    ?assertEqual(["512", "512"], limits(Raised)).

a_raised_limit_leaves_the_vm_what_it_can_use(_Config) ->
    Limits = "ulimit -Sn 128; ulimit -Hn 512",
    {VM, Port} = start_limited(Limits, #{raise_file_limit => true}),
    %% Started again, the limit is what was raised before.
    ok = testkit:call(VM, portmapper, stop, []),
    ok = testkit:call(VM, application, set_env, [portmapper, port, Port]),
    ok = testkit:call(VM, application, start, [portmapper]),
    Names = ["node" ++ integer_to_list(I) || I <- lists:seq(1, 300)],
    Held = [testkit:register(Port, Name, 1001) || Name <- Names],
    ?assertEqual(300, testkit:call(VM, portmapper, count, [])),
    assert_vm_is_well(VM),
    Idle = [testkit:connect(Port) || _ <- lists:seq(1, 300)],
    testkit:wait_until(fun() -> counter(VM, crowded_out) > 20 end),
    assert_vm_is_well(VM),
    [ok = gen_tcp:close(Socket) || Socket <- Idle],
    {ok, _, _} = testkit:register(Port, "newcomer", 1001),
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || {ok, Socket, _} <- Held],
    ?assertEqual(301, testkit:call(VM, portmapper, count, [])).

%% It opens files, sockets and programs.
assert_vm_is_well(VM) ->
    ?assertEqual("well\n", testkit:call(VM, os, cmd, ["echo well"])),
    ?assertMatch({ok, _}, testkit:call(VM, file, read_file, ["/proc/self/limits"])),
    Connect = testkit:call(VM, gen_tcp, connect, [{127, 0, 0, 1}, 1, []]),
    ?assertEqual({error, econnrefused}, Connect).

start_limited(Limits, Config) ->
    Exec = {"/bin/sh", ["-c", Limits ++ "; exec erl \"$@\"", "sh"]},
    testkit:start_portmapper(#{exec => Exec, config => Config, logger_level => notice}).

%% Soft and hard.
limits(#{os_pid := Pid}) ->
    {ok, Limits} = file:read_file(["/proc/", Pid, "/limits"]),
    {match, [Soft, Hard]} =
        re:run(Limits, "Max open files +(\\d+) +(\\d+)", [{capture, all_but_first, list}]),
    [Soft, Hard].

%% A VM that holds connections that say nothing.
idle_connections(Port, Count) ->
    VM = testkit:start_vm(#{args => ["-pa", filename:dirname(code:which(?MODULE))]}),
    _ = testkit:call(VM, erlang, spawn, [?MODULE, hold_idle, [Port, Count]]),
    testkit:wait_until(fun() -> is_pid(testkit:call(VM, erlang, whereis, [?MODULE])) end),
    VM.

hold_idle(Port, Count) ->
    _ = [testkit:connect(Port) || _ <- lists:seq(1, Count)],
    true = register(?MODULE, self()),
    receive
        stop -> ok
    end.

counter(VM, Name) ->
    #{counters := #{Name := Count}} = testkit:call(VM, portmapper, info, []),
    Count.

processes(VM) ->
    [testkit:call(VM, erlang, whereis, [Name]) || Name <- [portmapper_sup, portmapper_server]].

log_to_file(VM, Config) ->
    File = filename:join(?config(priv_dir, Config), "log"),
    Handler = #{config => #{file => File}},
    ok = testkit:call(VM, logger, add_handler, [file, logger_std_h, Handler]),
    fun() ->
        ok = testkit:call(VM, logger_std_h, filesync, [file]),
        {ok, Log} = file:read_file(File),
        Log
    end.

%% How often it was out of descriptors, and had enough again.
logged(Log) ->
    {count(Log, <<"out of file descriptors">>), count(Log, <<"file descriptors suffice again">>)}.

count(Log, Line) ->
    length(binary:matches(Log(), Line)).
