%% A port mapper in the VM of the suite itself.
-module(own_vm).

-export([start/0, start/1, try_start/1, stop/0, port/0, free_port/0]).

-define(VARIABLES, [
    "ERL_EPMD_PORT",
    "ERL_EPMD_ADDRESS",
    "ERL_EPMD_RELAXED_COMMAND_CHECK",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID"
]).

%% @doc Starts it on loopback, and yields the port that the system chose.
start() ->
    start(#{}).

%% @doc The same with more or other configuration.
-spec start(portmapper:config()) -> inet:port_number().
start(Config) ->
    ok = stop(),
    Own = #{port => 0, addresses => ["127.0.0.1"], takeover_socket => none},
    ok = try_start(maps:merge(Own, Config)),
    port().

%% @doc Starts it with exactly this application environment, if it is stopped.
-spec try_start(map()) -> ok | {error, term()}.
try_start(Config) ->
    ok = application:load(portmapper),
    ok = application:set_env([{portmapper, maps:to_list(Config)}]),
    application:start(portmapper).

%% @doc Stops it, if it runs, and forgets its configuration.
-spec stop() -> ok.
stop() ->
    _ = application:stop(portmapper),
    _ = application:unload(portmapper),
    lists:foreach(fun os:unsetenv/1, ?VARIABLES).

-spec port() -> inet:port_number().
port() ->
    #{addresses := [{_, Port} | _]} = portmapper:info(),
    Port.

%% @doc A port that nobody listens on, outside of what the system gives to
%% connections.
-spec free_port() -> inet:port_number().
free_port() ->
    Port = 10000 + rand:uniform(20000),
    case gen_tcp:listen(Port, []) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            Port;
        {error, _} ->
            free_port()
    end.
