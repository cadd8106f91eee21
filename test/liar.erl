%% Something that listens as a port mapper does, takes a request, and does with each
%% connection what it is told, until it is stopped.
-module(liar).

-export([start/1, start/3, stop/1, sends/2, slowly/2, endlessly/2]).

%% @doc Yields its port, on loopback, and the process.
-spec start(fun((gen_tcp:socket()) -> term())) -> {pid(), inet:port_number()}.
start(Lie) ->
    start({127, 0, 0, 1}, 0, Lie).

-spec start(inet:ip_address(), inet:port_number(), fun((gen_tcp:socket()) -> term())) ->
    {pid(), inet:port_number()}.
start(Address, Wanted, Lie) ->
    Self = self(),
    Pid = spawn_link(fun() ->
        Options = [binary, {ip, Address}, {active, false}, {reuseaddr, true}],
        {ok, Listener} = gen_tcp:listen(Wanted, Options),
        {ok, Port} = inet:port(Listener),
        Self ! {self(), Port},
        accept(Listener, Lie)
    end),
    receive
        {Pid, Port} -> {Pid, Port}
    end.

accept(Listener, Lie) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn_link(fun() ->
        receive
            go_on -> ok
        end,
        case gen_tcp:recv(Socket, 2) of
            {ok, <<Length:16>>} ->
                {ok, _} = gen_tcp:recv(Socket, Length),
                _ = Lie(Socket);
            {error, _} ->
                ok
        end,
        ok = gen_tcp:close(Socket)
    end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go_on,
    accept(Listener, Lie).

-spec stop(pid()) -> ok.
stop(Pid) ->
    true = unlink(Pid),
    Monitor = monitor(process, Pid),
    true = exit(Pid, shutdown),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

%% @doc Sends this, and waits until the other side closes.
-spec sends(gen_tcp:socket(), iodata()) -> ok.
sends(Socket, Bytes) ->
    _ = gen_tcp:send(Socket, Bytes),
    {error, _} = gen_tcp:recv(Socket, 0),
    ok.

%% @doc A byte now and then.
-spec slowly(gen_tcp:socket(), iodata()) -> ok.
slowly(Socket, Bytes) ->
    Send = fun(Byte) ->
        _ = gen_tcp:send(Socket, <<Byte>>),
        timer:sleep(50)
    end,
    lists:foreach(Send, binary_to_list(iolist_to_binary(Bytes))).

%% @doc The same again and again, until the other side closes.
-spec endlessly(gen_tcp:socket(), iodata()) -> ok.
endlessly(Socket, Bytes) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> endlessly(Socket, Bytes);
        {error, _} -> ok
    end.
