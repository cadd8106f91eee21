%% A service manager of the tests' own: the socket of sd_notify(3).
-module(service_manager).

-export([start/0, environment/1, next/1, await/2, is_told_nothing/2, stop/1]).
-export_type([manager/0]).

-type manager() :: {gen_udp:socket(), Name :: binary()}.

-define(DEADLINE, 20_000).

%% @doc Listens on an abstract address that nobody else has.
-spec start() -> manager().
start() ->
    Unique = [os:getpid(), $-, integer_to_list(erlang:unique_integer([positive]))],
    Name = iolist_to_binary(["portmapper-manager-", Unique]),
    Address = {ifaddr, {local, <<0, Name/binary>>}},
    {ok, Socket} = gen_udp:open(0, [local, Address, binary, {active, false}]),
    {Socket, Name}.

%% @doc What a service finds in its environment.
-spec environment(manager()) -> [{string(), string()}].
environment({_Socket, Name}) ->
    [{"NOTIFY_SOCKET", [$@ | binary_to_list(Name)]}].

%% @doc The assignments of the next message.
-spec next(manager()) -> [binary()].
next({Socket, _Name}) ->
    {ok, {_From, _Port, Message}} = gen_udp:recv(Socket, 0, ?DEADLINE),
    string:split(Message, "\n", all).

%% @doc Waits for a message with this assignment, past others.
-spec await(manager(), binary()) -> ok.
await(Manager, Assignment) ->
    case lists:member(Assignment, next(Manager)) of
        true -> ok;
        false -> await(Manager, Assignment)
    end.

%% @doc Whether no message comes for so long.
-spec is_told_nothing(manager(), Milliseconds :: pos_integer()) -> boolean().
is_told_nothing({Socket, _Name}, Milliseconds) ->
    gen_udp:recv(Socket, 0, Milliseconds) =:= {error, timeout}.

-spec stop(manager()) -> ok.
stop({Socket, _Name}) ->
    gen_udp:close(Socket).
