%% A release whose code is loaded by its boot script (`-mode embedded') or when it is called
%% (`-mode interactive'), with our epmd module from the first moment on: no EPMD is anywhere,
%% and another host finds its nodes. Each host is a network namespace, which ends with the VM
%% in it.
-module(epmd_release_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    an_embedded_host_boots_without_an_epmd_and_is_found_by_another_host/1,
    the_system_configuration_counts_from_the_start/1
]).

%% In a host of our own every port is free.
-define(PORT, 4400).
-define(NEAR, {10, 99, 0, 1}).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [
        an_embedded_host_boots_without_an_epmd_and_is_found_by_another_host,
        the_system_configuration_counts_from_the_start
    ].

init_per_suite(Config) ->
    Tools = [os:find_executable(Tool) || Tool <- ["unshare", "nsenter", "ip"]],
    case lists:member(false, Tools) orelse testkit:run(["unshare", "--net", "ip", "link"]) of
        {0, _} -> [{place, epmd_node:place()}, {boot, make_release(Config)} | Config];
        _ -> {skip, "no network namespaces here (not root, or no unshare, nsenter and ip)"}
    end.

end_per_suite(Config) ->
    epmd_node:leave(?config(place, Config)).

%% The boot script loads the modules of all applications before any process of kernel is
%% started. The application itself is started, too, and finds the server that is there.
make_release(Config) ->
    Name = filename:join(?config(priv_dir, Config), "embedded"),
    Applications = [
        begin
            _ = application:load(Each),
            {ok, Version} = application:get_key(Each, vsn),
            {Each, Version}
        end
     || Each <- [kernel, stdlib, portmapper]
    ],
    Erts = {erts, erlang:system_info(version)},
    Release = {release, {"embedded", "1"}, Erts, Applications},
    ok = file:write_file(Name ++ ".rel", io_lib:format("~p.~n", [Release])),
    Path = filename:dirname(code:which(portmapper)),
    {ok, systools_make, _} = systools:make_script(Name, [{path, [Path]}, silent, local]),
    Name.

an_embedded_host_boots_without_an_epmd_and_is_found_by_another_host(Config) ->
    [Host, Remote] = [
        start_host(Config, Address, ["-mode", "embedded", "-portmapper", "epmd_mode", "host"])
     || Address <- ["10.99.0.1", "10.99.0.2"]
    ],
    ok = cable(Host, Remote),
    [?assertEqual([<<"host">>], names(VM)) || VM <- [Host, Remote]],
    ?assertEqual(embedded, testkit:call(Host, code, get_mode, [])),
    ?assert(lists:keymember(portmapper, 1, testkit:call(Host, application, which_applications, []))),
    ok = testkit:wait_until(fun() ->
        testkit:call(Remote, gen_tcp, connect, [?NEAR, ?PORT, [], 5000]) =/= {error, timeout}
    end),
    {ok, [{"host", Port}]} = testkit:call(Remote, erl_epmd, names, [?NEAR]),
    ?assertEqual({port, Port, 6}, testkit:call(Remote, erl_epmd, port_please, ["host", ?NEAR])),
    ?assertEqual(pong, testkit:call(Remote, net_adm, ping, ['host@10.99.0.1'])).

the_system_configuration_counts_from_the_start(Config) ->
    File = filename:join(?config(priv_dir, Config), "sys.config"),
    Environment = [{portmapper, [{epmd_mode, host}, {exposure, lookup}, {port, 4401}]}],
    ok = file:write_file(File, io_lib:format("~p.~n", [Environment])),
    Arguments = ["-mode", "interactive", "-config", filename:rootname(File)],
    Host = start_host(Config, "127.0.0.1", Arguments),
    ?assertEqual(interactive, testkit:call(Host, code, get_mode, [])),
    ?assertMatch(
        #{exposure := lookup, port := 4401}, testkit:call(Host, portmapper, config, [])
    ),
    ?assertEqual(pong, testkit:call(Host, net_adm, ping, ['host@127.0.0.1'])).

names(VM) ->
    [Name || {Name, _} <- testkit:call(VM, portmapper, names, [])].

%% A host with nothing in it but this node.
start_host(Config, Address, Arguments) ->
    Up = "ip link set lo up; ip addr add " ++ Address ++ "/32 dev lo; exec erl \"$@\"",
    testkit:start_vm(#{
        name => host,
        host => Address,
        modules => [],
        exec => {os:find_executable("unshare"), ["--net", "sh", "-c", Up, "sh"]},
        args =>
            ["-boot", ?config(boot, Config), "-setcookie", "portmapper"] ++
                ["-start_epmd", "false", "-epmd_module", "portmapper_epmd" | Arguments],
        env => testkit:epmd_port(?PORT)
    }).

cable(Host, #{os_pid := Pid} = Remote) ->
    ok = sh(Host, ["ip link add near type veth peer name far netns ", Pid]),
    ok = sh(Host, "ip addr add 10.99.0.1/24 dev near; ip link set near addrgenmode none up"),
    ok = sh(Remote, "ip addr add 10.99.0.2/24 dev far; ip link set far addrgenmode none up").

sh(#{os_pid := Pid}, Command) ->
    Inside = ["nsenter", "--net=/proc/" ++ Pid ++ "/ns/net", "sh", "-ec"],
    {0, _} = testkit:run(Inside ++ [lists:flatten(Command)]),
    ok.
