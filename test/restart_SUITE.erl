%% A node that is started again gets its name, however fast, and whatever is left
%% of its last life.
-module(restart_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    distribution_that_stops_and_starts_1000_times_is_never_refused/1,
    a_client_that_is_killed_and_registers_5000_times_is_never_refused/1,
    a_node_whose_connection_its_child_inherited_is_followed/1
]).
%% Called in other VMs.
-export([restart/1, kill_and_register/2]).

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), is_case(Case)].

is_case(Function) ->
    not lists:member(Function, [module_info, restart]).

start_vm(Port) ->
    testkit:start_vm(#{
        args => ["-start_epmd", "false", "-pa", filename:dirname(code:which(?MODULE))],
        logger_level => critical,
        env => testkit:epmd_port(Port)
    }).

distribution_that_stops_and_starts_1000_times_is_never_refused(_Config) ->
    {Portmapper, Port} = testkit:start_portmapper(),
    VM = start_vm(Port),
    [?assertEqual(ok, testkit:call(VM, ?MODULE, restart, [100])) || _ <- lists:seq(1, 10)],
    ?assertEqual(1000, registered(Portmapper)).

restart(0) ->
    ok;
restart(Times) ->
    case net_kernel:start(['restarted@127.0.0.1', longnames]) of
        {ok, _} ->
            ok = net_kernel:stop(),
            restart(Times - 1);
        Refused ->
            {Times, Refused}
    end.

a_client_that_is_killed_and_registers_5000_times_is_never_refused(_Config) ->
    {Portmapper, Port} = testkit:start_portmapper(),
    VM = start_vm(Port),
    %% With a port that nobody listens on, and with one that does not change.
    [
        ?assertEqual(ok, testkit:call(VM, ?MODULE, kill_and_register, [500, NodePort]))
     || NodePort <- [4711, listen], _ <- "12345"
    ],
    ?assertEqual(5000, registered(Portmapper)).

%% OTP's own client. Its connection is closed some time after it has ended.
kill_and_register(Times, listen) ->
    {ok, Listener} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Listener),
    Outcome = kill_and_register(Times, Port),
    ok = gen_tcp:close(Listener),
    Outcome;
kill_and_register(0, _Port) ->
    ok;
kill_and_register(Times, Port) ->
    {ok, Client} = gen_server:start({local, erl_epmd}, erl_epmd, [], []),
    Monitor = monitor(process, Client),
    case erl_epmd:register_node("restarted", Port) of
        {ok, _Creation} ->
            exit(Client, kill),
            receive
                {'DOWN', Monitor, process, Client, killed} -> kill_and_register(Times - 1, Port)
            end;
        Refused ->
            {Times, Refused}
    end.

registered(VM) ->
    #{counters := #{registered := Count}} = testkit:call(VM, portmapper, info, []),
    Count.

a_node_whose_connection_its_child_inherited_is_followed(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    %% It listens, registers, and leaves its connection to a child.
    Script =
        "import os, socket, sys, time\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "port = listener.getsockname()[1].to_bytes(2, 'big')\n"
        "node = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "node.sendall(b'\\0\\x14x' + port + b'M\\0\\0\\6\\0\\5\\0\\7started\\0\\0')\n"
        "assert node.recv(6)[:2] == b'v\\0'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    listener.close()\n"
        "    time.sleep(600)\n"
        "print(child, flush=True)\n"
        "sys.stdin.read()\n",
    Arguments = ["-c", Script, integer_to_list(Port)],
    Path = os:find_executable("python3"),
    Parent = open_port({spawn_executable, Path}, [{args, Arguments}, {line, 80}, exit_status]),
    {os_pid, Pid} = erlang:port_info(Parent, os_pid),
    Child =
        receive
            {Parent, {data, {eol, Line}}} -> Line
        after 10_000 -> error(no_child)
        end,
    try
        {ok, #{creation := Creation}} = testkit:call(VM, portmapper, lookup, [started]),
        {0, _} = testkit:run(["kill", "-9", integer_to_list(Pid)]),
        %% Its end shows though its child has its streams.
        ok = testkit:wait_until(fun() -> not is_alive(Pid) end),
        ?assertMatch({ok, #{holder := #{pid := _}}}, testkit:call(VM, portmapper, lookup, [started])),
        Node = testkit:start_node(started, Port),
        ?assertEqual(Creation + 1, testkit:call(Node, erlang, system_info, [creation])),
        #{counters := #{evicted := Evicted}} = testkit:call(VM, portmapper, info, []),
        ?assertEqual(1, Evicted),
        ok = testkit:stop(Node)
    after
        {0, _} = testkit:run(["kill", "-9", Child])
    end.

%% One that has ended and is not waited for yet counts as gone.
is_alive(Pid) ->
    case file:read_file(["/proc/", integer_to_list(Pid), "/stat"]) of
        {ok, Stat} -> binary:match(Stat, <<") Z ">>) =:= nomatch;
        {error, _} -> false
    end.
