%% Hurts the VM that it runs in, as the harness tells it to: its node has no
%% distribution that could be used for that.
-module(saboteur).

-export([start/0]).

%% Started by vm.args: `-s saboteur -saboteur PORT'. Whoever listens there is
%% told the pid of this VM.
start() ->
    {ok, [[Port]]} = init:get_argument(saboteur),
    spawn(fun() -> serve(list_to_integer(Port)) end).

serve(Port) ->
    Options = [binary, {packet, line}, {active, false}],
    case gen_tcp:connect({127, 0, 0, 1}, Port, Options) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, [os:getpid(), $\n]),
            obey(Socket);
        {error, _} ->
            %% The harness has ended.
            ok
    end.

obey(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} ->
            [Order | _] = binary:split(Line, <<"\n">>),
            ok = gen_tcp:send(Socket, [carry_out(Order), $\n]),
            obey(Socket);
        {error, _} ->
            ok
    end.

carry_out(<<"panic">>) ->
    ok = portmapper_nif:panic_thread(portmapper_server:server()),
    <<"done">>;
carry_out(<<"kill ", Name/binary>>) ->
    Pid = whereis(binary_to_existing_atom(Name)),
    exit(Pid, kill),
    await_successor(binary_to_existing_atom(Name), Pid),
    <<"done">>;
%% What an application stands on: it ends, and takes the VM along.
carry_out(<<"end ", Which/binary>>) ->
    Master = application_controller:get_master(portmapper),
    {Top, portmapper_app} = application_master:get_child(Master),
    Kernel = application_controller:get_master(kernel),
    Processes = #{<<"supervisor">> => Top, <<"master">> => Master, <<"kernel">> => Kernel},
    exit(maps:get(Which, Processes), kill),
    <<"done">>;
%% Any process of the VM but this one.
carry_out(<<"any ", Number/binary>>) ->
    Processes = processes() -- [self()],
    Pid = lists:nth(binary_to_integer(Number) rem length(Processes) + 1, Processes),
    Name = [io_lib:format("~w", [process_info(Pid, Key)]) || Key <- [registered_name, initial_call]],
    exit(Pid, kill),
    Name;
carry_out(<<"creations">>) ->
    [
        begin
            {ok, #{creation := Creation}} = portmapper:lookup(Name, #{holder => false}),
            [Name, $=, integer_to_list(Creation), $\s]
        end
     || {Name, _Port} <- portmapper:names("*")
    ].

await_successor(Name, Pid) ->
    case whereis(Name) of
        Other when is_pid(Other), Other =/= Pid ->
            ok;
        _ ->
            receive
            after 1 -> await_successor(Name, Pid)
            end
    end.
