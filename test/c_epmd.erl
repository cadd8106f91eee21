%% OTP's own epmd, on a port of its own.
-module(c_epmd).

-export([start/0, stop/1]).

%% @doc Yields it, and its port.
-spec start() -> {port(), inet:port_number()}.
start() ->
    Port = own_vm:free_port(),
    Epmd = open_port(
        {spawn_executable, os:find_executable("epmd")},
        [
            {args, ["-port", integer_to_list(Port), "-address", "127.0.0.1"]},
            stderr_to_stdout,
            exit_status
        ]
    ),
    Where = #{host => {127, 0, 0, 1}, port => Port},
    testkit:wait_until(fun() -> portmapper:names("*", Where) =:= {ok, []} end),
    {Epmd, Port}.

-spec stop(port()) -> ok.
stop(Epmd) ->
    {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
    {0, _} = testkit:run(["kill", integer_to_list(Pid)]),
    receive
        {Epmd, {exit_status, _}} -> ok
    end.
